"""What `recsys finetune` prints when it has ended."""

from rich.console import Console

from pipelines.finetune import Finetuned


def show(made: Finetuned, console: Console) -> None:
    """Print what came of going on from a bundle."""
    moved = made.continuity
    lines = [
        f"from       {made.parent}: {made.new_events:,} new events, {made.new_items:,} new items, "
        f"{made.new_users:,} new users",
        f"known      {moved['overlap@10']:.0%} of known users' lists stay; item vectors move by at most "
        f"{moved['largest_vector_move']:.2g} of their length",
        f"took       {made.training_s:.0f} s of training",
        f"run        {made.run}",
        f"version    {made.version or 'not published'}   {made.bundle}",
    ]
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)
