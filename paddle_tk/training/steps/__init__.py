"""What differs between tasks in a training step; everything else is ``FitModel``'s."""
