"""python -m fcdd_sweep EXPERIMENT.yaml"""

from fcdd_sweep.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
