"""`python -m subgraph.schema` writes the SDL to subgraph/schema.graphql."""

from subgraph.schema import SDL_FILE, build_schema

if __name__ == "__main__":
    SDL_FILE.write_text(build_schema().as_str() + "\n")
