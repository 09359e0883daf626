"""Texts to train on for a moment."""

import random


def tiny_text(seed: int = 0) -> str:
    """Of few words, so that there is something to learn."""
    draw = random.Random(seed)
    return "".join(
        draw.choice(["to be ", "or not ", "that is\n", "the question: "]) for _ in range(400)
    )
