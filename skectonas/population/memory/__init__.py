"""What a round needs of the memory, what is free, and how a round is divided to fit."""
