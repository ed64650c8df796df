"""Label Studio's code of a brush's pixels, which is rle-pack of thi.ng/umbrella.

Source: https://github.com/thi-ng/umbrella/tree/develop/packages/rle-pack (README, "Encoding format"). A stream of bits,
the highest first: 32 bits with the number of words, 5 with the bits of a word less 1, four times 4 with the bits of a
length less 1. Then chunks: 1 bit (a run of one word, or single words), 2 bits (which of the four), the length less 1,
and the run's word or all single words. The words are the bytes R, G, B, A of the image, row by row; alpha tells.
"""

from bisect import bisect_left

import numpy as np
from numpy.typing import NDArray

WORD = 8  # bits
LENGTHS = (3, 4, 8, 16)  # bits, as Label Studio writes them
CHANNELS = 4  # red, green, blue, alpha
SINGLE, RUN = 0, 1


def decode(code: bytes, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask bool `[H, W]` of a code. Raises ValueError where it is none, or one of another size."""
    words = shape[0] * shape[1] * CHANNELS
    position = 0

    def read(bits: int) -> int:
        nonlocal position
        position += bits
        end = -(-position // 8)
        if end > len(code):
            raise ValueError("it stops short")
        start = (position - bits) // 8
        return (int.from_bytes(code[start:end]) >> (8 * end - position)) & ((1 << bits) - 1)

    count, word = read(32), read(5) + 1
    if count != words or word != WORD:
        raise ValueError(f"{count} words of {word} bits, expected {words} of {WORD}")
    lengths = [read(4) + 1 for _ in LENGTHS]
    flat = np.zeros(words, np.uint8)
    done = 0
    while done < words:
        kind = read(1)
        length = read(lengths[read(2)]) + 1
        if done + length > words:
            raise ValueError(f"more than {words} words")
        if kind == RUN:
            flat[done : done + length] = read(WORD)
        else:
            flat[done : done + length] = np.frombuffer(read(WORD * length).to_bytes(length), np.uint8)
        done += length
    return flat.reshape(*shape, CHANNELS)[..., -1] > 0


def encode(runs: NDArray[np.int64], shape: tuple[int, int]) -> bytes:
    """The code of a mask given by its runs `[R, 2]`; its pixels are opaque white, all others are 0."""
    words = shape[0] * shape[1] * CHANNELS
    bits = [f"{words:032b}{WORD - 1:05b}", *(f"{length - 1:04b}" for length in LENGTHS)]
    done = 0
    for start, length in (CHANNELS * (runs - (1, 0))).tolist():
        bits += [*_chunks(start - done, 0), *_chunks(length, 255)]
        done = start + length
    text = "".join([*bits, *_chunks(words - done, 0)])
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8)


def _chunks(length: int, value: int) -> list[str]:
    """The bits of a run of one word, in as many chunks as it takes."""
    longest = 1 << LENGTHS[-1]
    full, rest = divmod(length, longest)
    chunks = [longest] * full + [rest] * (rest > 0)
    codes = []
    for chunk in chunks:
        which = bisect_left(LENGTHS, (chunk - 1).bit_length())
        codes.append(f"{RUN}{which:02b}{chunk - 1:0{LENGTHS[which]}b}{value:0{WORD}b}")
    return codes
