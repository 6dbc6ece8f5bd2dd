"""dictionary-learning (saprmarks/dictionary_learning)."""
