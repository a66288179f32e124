"""`python -m subgraph.schema` writes the SDL to subgraph/schema.graphql."""

from pathlib import Path
from typing import Final

from subgraph.schema import build_schema

SDL_FILE: Final = Path(__file__).resolve().parent.parent / "schema.graphql"

if __name__ == "__main__":
    SDL_FILE.write_text(build_schema().as_str() + "\n")
