"""What a trained model is worth: estimators, each a pure function, tested against exact answers."""
