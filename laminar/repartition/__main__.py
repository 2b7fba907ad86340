"""The program of a worker process: ``python -m laminar.repartition NUMBER …``."""

import gc


def main() -> None:
    """Be a worker, without looking for garbage among what is imported for good."""
    gc.disable()
    from laminar.repartition.worker import main as work

    gc.freeze()
    gc.enable()
    work()


if __name__ == "__main__":
    main()
