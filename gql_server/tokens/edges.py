"""Token ids that are written before and behind a text: by its tokenizer, or as a model's options say."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True)
class TextEdges:
    """What stands before a text (a BOS, say) and behind it (an EOS, two of them, a [SEP])."""

    begin: Sequence[int] = ()
    end: Sequence[int] = ()

    def enclose(self, ids: Sequence[int], max_length: int | None = None) -> list[int]:
        """Return a text's ids between the edges, cut at the text's end where all are more than may be.

        A text that begins with ``begin`` by itself gets no second one.
        """
        begin = list(self.before(ids))
        room = None if max_length is None else max(0, max_length - len(begin) - len(self.end))
        return [*begin, *ids[:room], *self.end]

    def spans(self, ids: Sequence[int], max_length: int) -> Iterator[tuple[int, int]]:
        """Give where a text's consecutive pieces begin and end that have at most so many ids in the edges.

        The first is what ``enclose`` leaves of the text. At least one id fits between the edges.
        """
        start = 0
        while True:
            # As far as before() looks.
            head = ids[start : start + len(self.begin)]
            stop = min(len(ids), start + max(1, max_length - len(self.before(head)) - len(self.end)))
            yield start, stop
            start = stop
            if start >= len(ids):
                return

    def before(self, ids: Sequence[int]) -> Sequence[int]:
        """Return what is still to be written before a text's ids."""
        return () if list(ids[: len(self.begin)]) == list(self.begin) else self.begin


def edges_of(tokenizer: "Tokenizer") -> TextEdges:
    """Return what a tokenizer's post-processor writes around any text.

    It is given a token of another vocabulary, which no text in between can be taken for.
    """
    from tokenizers import Tokenizer, models

    other = Tokenizer(models.WordLevel({"text": 0}, unk_token="text"))
    around = tokenizer.post_process(other.encode("text"), None, True)
    place = around.sequence_ids.index(0)
    return TextEdges(tuple(around.ids[:place]), tuple(around.ids[place + 1 :]))


def chosen_begin(own: Sequence[int], bos_token_id: int | None, add_bos: bool | None) -> tuple[int, ...]:
    """Return what stands before a text where a model's ``add_bos`` says so.

    None: what the tokenizer writes itself. False: nothing. True: what it writes, or its BOS where that is
    nothing.
    """
    if add_bos is False:
        return ()
    if add_bos and not own and bos_token_id is not None:
        return (bos_token_id,)
    return tuple(own)
