"""`python -m wandb_standin` serves; `python -m wandb_standin ctl …` controls a running server."""

from wandb_standin.cli import main

main(prog_name="python -m wandb_standin")
