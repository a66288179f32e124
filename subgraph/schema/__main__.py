"""`python -m subgraph.schema` prints the SDL: what subgraph/schema.graphql holds."""

import sys

from subgraph.schema import build_schema

if __name__ == "__main__":
    sys.stdout.write(build_schema().as_str() + "\n")
