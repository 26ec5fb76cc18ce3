"""The shared kernel of Trimtab: the words every part speaks. Standard library only."""
