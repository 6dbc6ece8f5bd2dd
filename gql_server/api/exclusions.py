"""How inputs say which tokens are to be left out."""

EXCLUDE_FIRST_POSITIONS = (
    "Leave out so many tokens at the start of each text, counted from its own first token, special ones"
    " included; as the SAE was trained if left out, 0 for none."
)
EXCLUDE_OUTLIERS = (
    "Leave out tokens whose activations are longer than so many times the median of the SAE's run; as the SAE"
    " was trained if left out, 0 for none."
)
