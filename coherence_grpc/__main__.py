"""`python -m coherence_grpc` is the command `coherence`."""

import sys

from coherence_grpc.cli import main

if __name__ == "__main__":
    sys.exit(main())
