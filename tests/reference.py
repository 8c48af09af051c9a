"""Plain-Python twins of every kernel. Imports nothing of the package."""

import math
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import product


def polynomial_row(gram: Sequence[int], base: int, rows: int) -> int:
    """arXiv:2601.21204 Eq. 2; ``gram[s]`` is the token s places back."""
    code: int = sum(token * base**s for s, token in enumerate(gram))
    return code % rows


def stream_rows(
    tokens: Sequence[int],
    base: int,
    table_rows: Sequence[int],
    orders: Sequence[int],
    boundary: int | None,
) -> list[list[int]]:
    """HF LongCat-Flash-Lite: context beyond the start or past a boundary is 0 (HASHING 3.1)."""
    result = []
    for p in range(len(tokens)):
        closed = [q + 1 for q in range(p) if tokens[q] == boundary]
        start = max(closed, default=0)
        context = [tokens[p - s] if p - s >= start else 0 for s in range(max(orders))]
        result.append(
            [
                polynomial_row(context[:n], base, rows)
                for n, rows in zip(orders, table_rows, strict=True)
            ]
        )
    return result


def distinct_ngrams(documents: Sequence[Sequence[int]], order: int) -> Counter[tuple[int, ...]]:
    """Complete n-grams of each document, newest token first."""
    found: Counter[tuple[int, ...]] = Counter()
    for document in documents:
        for end in range(order - 1, len(document)):
            found[tuple(document[end - s] for s in range(order))] += 1
    return found


def occupancy(row_ids: Sequence[int], counts: Sequence[int]) -> tuple[int, int, Fraction]:
    """(occupied rows, n-grams that share their row, sum of count**2 / traffic of the row)."""
    grams: Counter[int] = Counter(row_ids)
    traffic: Counter[int] = Counter()
    for row, count in zip(row_ids, counts, strict=True):
        traffic[row] += count
    sharing = sum(1 for row in row_ids if grams[row] > 1)
    own = sum(
        (Fraction(c * c, traffic[row]) for row, c in zip(row_ids, counts, strict=True)),
        start=Fraction(0),
    )
    return len(grams), sharing, own


def multiply_xor_row(gram: Sequence[int], multipliers: Sequence[int], rows: int) -> int:
    """HASHING section 5: (c_0 m_0) xor (c_1 m_1) xor ..., mod rows."""
    mixed = 0
    for s in range(len(gram)):
        mixed = mixed ^ (gram[s] * multipliers[s])
    return mixed % rows


def wrapped(value: int, bits: int, *, signed: bool) -> int:
    """``value`` as an integer of so many bits holds it."""
    size: int = 1 << bits
    low = size // 2 if signed else 0
    return (value + low) % size - low


def _words(gram: Sequence[int]) -> list[int]:
    return list(reversed(gram))


def crc32_row(gram: Sequence[int], rows: int) -> int:
    """CRC-32 bit by bit (reflected polynomial 0xEDB88320), oldest token first."""
    crc = 0xFFFFFFFF
    for word in _words(gram):
        for bit in range(32):
            low = (crc ^ (word >> bit)) & 1
            crc = (crc >> 1) ^ (0xEDB88320 if low else 0)
    return (crc ^ 0xFFFFFFFF) % rows


def murmur3_row(gram: Sequence[int], seed: int, rows: int) -> int:
    """MurmurHash3_x86_32 over whole 4-byte blocks, oldest token first."""

    def rotate(x: int, bits: int) -> int:
        return ((x << bits) | (x >> (32 - bits))) % 2**32

    h = seed
    for word in _words(gram):
        k = rotate(word * 0xCC9E2D51 % 2**32, 15) * 0x1B873593 % 2**32
        h = (rotate(h ^ k, 13) * 5 + 0xE6546B64) % 2**32
    h ^= 4 * len(gram)
    h = (h ^ (h >> 16)) * 0x85EBCA6B % 2**32
    h = (h ^ (h >> 13)) * 0xC2B2AE35 % 2**32
    return (h ^ (h >> 16)) % rows


def ideal_row(gram: Sequence[int], seed: int, rows: int) -> int:
    """One splitmix64 step per token, the token XORed into the state, oldest token first; the state
    begins with the mixed seed.
    """

    def mixed(x: int) -> int:
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
        return x ^ (x >> 31)

    state = mixed(seed)
    for word in _words(gram):
        state = mixed(((state + 0x9E3779B97F4A7C15) % 2**64) ^ word)
    return state % rows


def shared_rows(row_ids: Sequence[int], counts: Sequence[int]) -> tuple[int, int, int]:
    """(occupied rows, n-grams that share their row, occurrences of those)."""
    grams = Counter(row_ids)
    shared = [count for row, count in zip(row_ids, counts, strict=True) if grams[row] > 1]
    return len(grams), len(shared), sum(shared)


def jointly_shared(
    row_ids: Sequence[Sequence[int]], counts: Sequence[int]
) -> tuple[int, int, int, int]:
    """(n-grams that share their row in every table, their occurrences, n-grams whose rows in all
    tables are also another one's, their occurrences); ``row_ids`` per table.
    """
    grams = [Counter(rows) for rows in row_ids]
    tuples = list(zip(*row_ids, strict=True))
    everywhere = [
        count
        for rows, count in zip(tuples, counts, strict=True)
        if all(held[row] > 1 for held, row in zip(grams, rows, strict=True))
    ]
    same = Counter(tuples)
    merged = [count for rows, count in zip(tuples, counts, strict=True) if same[rows] > 1]
    return len(everywhere), sum(everywhere), len(merged), sum(merged)


def or_bytes(table: Sequence[int], at: int, bits: int, num_bytes: int) -> tuple[list[int], int]:
    """(table with bits ORed in, little-endian, from byte ``at``; what those bytes were)."""
    old = sum(byte << (8 * i) for i, byte in enumerate(table[at : at + num_bytes]))
    new = old | bits
    changed = [(new >> (8 * i)) & 255 for i in range(num_bytes)]
    return [*table[:at], *changed, *table[at + num_bytes :]], old


def fold(bits: set[int], rows: int) -> tuple[set[int], set[int]]:
    """(rows that are set, rows set at more than one position) of positions modulo the size."""
    held = Counter(bit % rows for bit in bits)
    return set(held), {row for row, times in held.items() if times > 1}


def field_bits(vocab_size: int) -> int:
    """Bits that hold 0 (past the end) and token + 1 for every id."""
    return len(f"{vocab_size:b}")


def packed_words(gram: Sequence[int], order: int, vocab_size: int) -> list[int]:
    """``gram``, oldest token first and perhaps cut short, in words of whole fields."""
    bits = field_bits(vocab_size)
    per_word = 64 // bits
    fields = [token + 1 for token in gram] + [0] * (order - len(gram))
    words = []
    for start in range(0, order, per_word):
        word = 0
        for field in fields[start : start + per_word]:
            word = word << bits | field
        words.append(word)
    return words


def starting_grams(documents: Sequence[Sequence[int]], order: int) -> list[list[int]]:
    """The n-gram that begins at each position, oldest token first; cut where its document ends."""
    return [list(doc[p : p + order]) for doc in documents for p in range(len(doc))]


def bucket_entries(token_counts: Sequence[int], target: int) -> tuple[list[int], int]:
    """(first bucket << 16 | shift << 12 | rank of every token, number of buckets)."""
    entries = []
    total = max(sum(token_counts), 1)
    bucket, filled = 0, 0
    for token, count in enumerate(token_counts):
        split = 1
        while count > target and split < 4096 and split * target < 2 * count:
            split *= 2
        if filled and (split > 1 or filled + count > target):
            bucket, filled = bucket + 1, 0
        rank = min(sum(token_counts[:token]) * 4096 // total, 4095)
        shift = 12 - (len(f"{split:b}") - 1)
        entries.append(bucket << 16 | shift << 12 | rank)
        filled += count
        if split > 1:
            bucket, filled = bucket + split, 0
    return entries, bucket + 1


def bucket_of(gram: Sequence[int], entries: Sequence[int]) -> int:
    """Bucket of an n-gram, oldest token first."""
    entry = entries[gram[0]]
    rank = entries[gram[1]] & 4095 if len(gram) > 1 else 0
    return (entry >> 16) + (rank >> (entry >> 12 & 15))


def gram_marks(grams: Sequence[Sequence[int]], order: int) -> list[int]:
    """Of sorted n-grams, perhaps cut: 2 a new one of this order, 1 a repeat, 0 cut short."""
    marks = []
    for i, gram in enumerate(grams):
        new = i == 0 or grams[i - 1][:order] != gram[:order]
        marks.append(0 if len(gram) < order else 2 if new else 1)
    return marks


def lattice_box(modulus: int, multipliers: Sequence[int], half_width: int) -> list[tuple[int, ...]]:
    """Every v with |v_s| <= half_width and ``sum_s v_s multipliers_s = 0 mod modulus``."""
    box = product(range(-half_width, half_width + 1), repeat=len(multipliers))
    return [
        v for v in box if sum(a * m for a, m in zip(v, multipliers, strict=True)) % modulus == 0
    ]


def box_sum(
    modulus: int, multipliers: Sequence[int], half_width: int, weights: Sequence[float]
) -> float:
    """Sum over ``lattice_box`` of the product of weights[|v_s|]."""
    box = lattice_box(modulus, multipliers, half_width)
    return math.fsum(math.prod(weights[abs(a)] for a in v) for v in box)


def rank_law(num_ids: int) -> list[float]:
    """docs/method.md, Lattice score: P(i)."""
    weights = [(i + 2.7) ** -1.05 for i in range(num_ids)]
    return [weight / math.fsum(weights) for weight in weights]


def rank_autocorrelation(num_ids: int) -> list[float]:
    """docs/method.md, Lattice score: R(d)."""
    law = rank_law(num_ids)
    return [math.fsum(law[i] * law[i + d] for i in range(num_ids - d)) for d in range(num_ids)]


def lattice_score(rows: int, base: int, order: int) -> float:
    """The whole sum of docs/method.md from the probability of every row, nothing truncated."""
    law = rank_law(base)
    row_probability = [0.0] * rows
    for gram in product(range(base), repeat=order):
        row_probability[polynomial_row(gram, base, rows)] += math.prod(law[c] for c in gram)
    same = math.fsum(p * p for p in law) ** order
    together = math.fsum(p * p for p in row_probability)
    return rows * (together - same) / (1 - same)


def meeting_pairs(
    rows: int, base: int, previous: Sequence[int], current: Sequence[int]
) -> Fraction:
    """Expected ordered pairs of bigrams a positive multiple of ``rows`` apart, of independent
    tokens with these degrees; codes are previous * base + current.
    """
    found = 0
    for (a, da), (c, dc) in product(enumerate(previous), repeat=2):
        for (b, db), (d, dd) in product(enumerate(current), repeat=2):
            apart = (a * base + b) - (c * base + d)
            if apart > 0 and apart % rows == 0:
                found += da * db * dc * dd
    return Fraction(found)


def row_adam_steps(
    weights: list[list[float]],
    steps: list[list[tuple[int, list[float]]]],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
) -> list[list[float]]:
    """Rows after AdamW, each row through the steps that name it only; gradients of a row add up."""
    rows = [list(row) for row in weights]
    state: dict[int, tuple[list[float], list[float], int]] = {}
    for step in steps:
        grads: dict[int, list[float]] = {}
        for row, grad in step:
            before = grads.get(row, [0.0] * len(grad))
            grads[row] = [a + b for a, b in zip(before, grad, strict=True)]
        for row, grad in grads.items():
            zeros = [0.0] * len(grad)
            avg, avg_sq, count = state.get(row, (zeros, zeros, 0))
            count += 1
            avg = [betas[0] * m + (1 - betas[0]) * g for m, g in zip(avg, grad, strict=True)]
            avg_sq = [
                betas[1] * v + (1 - betas[1]) * g * g for v, g in zip(avg_sq, grad, strict=True)
            ]
            state[row] = (avg, avg_sq, count)
            rows[row] = [
                w * (1 - lr * weight_decay)
                - lr
                * (m / (1 - betas[0] ** count))
                / (math.sqrt(v / (1 - betas[1] ** count)) + eps)
                for w, m, v in zip(rows[row], avg, avg_sq, strict=True)
            ]
    return rows


def merge_tables(
    left: Mapping[tuple[int, ...], int], right: Mapping[tuple[int, ...], int]
) -> list[tuple[tuple[int, ...], int]]:
    """(n-gram, newest token first, and its count) of both, sorted from the oldest token on."""
    added = Counter(left) + Counter(right)
    return sorted(added.items(), key=lambda item: item[0][::-1])


def lru_distances(trace: Sequence[int]) -> list[int]:
    """Mattson's stack, most recent last: how deep each row lies; 0 where it is not in it."""
    stack: list[int] = []
    found = []
    for row in trace:
        found.append(len(stack) - stack.index(row) if row in stack else 0)
        if row in stack:
            stack.remove(row)
        stack.append(row)
    return found


def lru_misses(trace: Sequence[int], size: int) -> int:
    """An ordered dict that drops its oldest row, one cache size at a time."""
    held: OrderedDict[int, None] = OrderedDict()
    misses = 0
    for row in trace:
        if row in held:
            held.move_to_end(row)
            continue
        misses += 1
        held[row] = None
        if len(held) > size:
            held.popitem(last=False)
    return misses


def clock_misses(trace: Sequence[int], size: int) -> int:
    """Corbato's CLOCK as a queue: a referenced head goes to the back, unreferenced, and stays."""
    queue: list[int] = []
    referenced: set[int] = set()
    misses = 0
    for row in trace:
        if row in queue:
            referenced.add(row)
            continue
        misses += 1
        if len(queue) == size:
            while queue[0] in referenced:
                referenced.remove(queue[0])
                queue.append(queue.pop(0))
            queue.pop(0)
        queue.append(row)
    return misses


def static_hot_misses(ranking: Sequence[int], trace: Sequence[int], size: int) -> int:
    """A cache filled with the rows most frequent in ``ranking``, first seen first, and kept."""
    held = {row for row, _ in Counter(ranking).most_common(size)}
    return sum(row not in held for row in trace)


def splitmix64(value: int) -> int:
    """The output function of Steele et al., 2014."""
    wrap = 2**64 - 1
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & wrap
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB & wrap
    return value ^ (value >> 31)


def in_turn(lengths: Sequence[int], concurrency: int, lookahead: int) -> list[int]:
    """Positions of documents that take turns, simulated turn by turn."""
    waiting: list[list[int]] = []
    for length in lengths:
        start = waiting[-1][-1] + 1 if waiting else 0
        waiting.append(list(range(start, start + length)))
    seats: list[list[int]] = [[] for _ in range(concurrency)]
    found: list[int] = []
    while waiting or any(seats):
        for seat in seats:
            if not seat and waiting:
                seat.extend(waiting.pop(0))
            found += seat[:lookahead]
            del seat[:lookahead]
    return found
