"""`python -m musicgen.evaluation REFERENCE CANDIDATES`."""

from .command import main

if __name__ == "__main__":
    main()
