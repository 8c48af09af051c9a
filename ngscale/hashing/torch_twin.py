"""The torch twin of ``definition.py``: any device, no host sync, no loop over tokens.

Letters: B sequences, T tokens, E tables, N the longest order. Every operation is elementwise, on
[B, T] or for all tables at once; the only Python loop is over the N places of the look-back. So a
compiler makes one pass of it, and the operations are the same ones whatever the tokens are. The
reach of a look-back of N-1 places needs no scan: it goes on while nothing has closed.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple, Self

import torch
from jaxtyping import Bool, Int64
from torch import Tensor, nn
from torch.nn.functional import pad

from ngscale.hashing.registry import gram_scheme
from ngscale.hashing.stream import NO_ROW
from ngscale.spec import NgramSpec, XorHash

_OUT_OF_REACH = -1
_IGNORED = -2
"""Any ignored id, where the policy sends the n-grams that hold one to the last row."""

_BITS_OF_2_52 = 0x433 << 52
"""Of the float 2**52: sign 0, exponent 52 + 1023, mantissa 0."""


class StreamState(NamedTuple):
    """What the next position of every sequence sees of those before it: N-1 ids.

    The last N-1 raw ids would not do: they do not tell whether the oldest of them began its
    sequence, and a policy may have replaced it then.
    """

    ids: Int64[Tensor, "B P"]
    """c_(N-1) .. c_1, negative where the look-back has stopped."""
    segment: Int64[Tensor, "B 1"] | None
    """Document of the last position, where documents are numbered."""


class Lookups(NamedTuple):
    """What a position looks up."""

    ids: Int64[Tensor, "B T E"]
    """Row in every table, ``NO_ROW`` where nothing is looked up."""
    reads: Bool[Tensor, "B T E"] | None
    """Which of them are read as stored, the others as the zero vector; None: all."""


class _Seen(NamedTuple):
    """N-1 places before the tokens and the tokens: [B, N-1+T]."""

    ids: Tensor
    """As the hash takes them."""
    open: Tensor
    """0 where the look-back of what follows stops, without seeing that id itself; else 1."""
    looks: Tensor | None
    """0 for tokens that see no others; else 1."""


class NgramHash(nn.Module):
    """Token ids [B, T] -> row in every table [B, T, E], ``NO_ROW`` where nothing is looked up.

    The constants are made once for a device, buffers outside the state dict. ``forward`` and
    ``advance`` of a sequence in parts give the rows of the whole, however it is cut.

    Raises:
        SpecError: the spec leaves the fill undecided.
    """

    weights: Tensor
    """The factor of each place in each table, 0 beyond its order: [N, E]."""
    rows: Tensor
    """[E], like the orders."""
    orders: Tensor

    def __init__(self, spec: NgramSpec) -> None:
        super().__init__()
        self.spec = spec
        self.fill = spec.policy.decided_fill
        self._weights = [
            gram_scheme(spec.hash, i).weights(order, rows) + [0] * (spec.max_order - order)
            for i, (order, rows) in enumerate(zip(spec.table_orders, spec.table_rows, strict=True))
        ]
        largest_id = max(spec.vocab_size - 1, spec.table_rows[0])  # a reserved row may be an id
        largest_sum = largest_id * max(map(sum, self._weights))
        exact = not isinstance(spec.hash, XorHash) and spec.hash.arithmetic == "exact"
        self.reduce_products = exact and largest_sum >= 2**63
        self.in_floats = exact and largest_sum + max(spec.table_rows) <= 2**53
        self._make_constants(None)

    def _make_constants(self, device: torch.device | None) -> None:
        # Integers below 2**53 in float64 are the quickest; MPS has none.
        floats = self.in_floats and (device is None or device.type != "mps")
        self.dtype = torch.float64 if floats else torch.int64
        weights = torch.tensor(self._weights, dtype=self.dtype, device=device).T.contiguous()
        rows = torch.tensor(self.spec.table_rows, dtype=self.dtype, device=device)
        orders = torch.tensor(self.spec.table_orders, device=device)
        self.register_buffer("weights", weights, persistent=False)
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("orders", orders, persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """A move makes the constants anew: a cast would spoil them, ``to_empty`` lose them."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._make_constants(self.rows.device)
        return self

    def forward(
        self,
        tokens: Int64[Tensor, "B T"],
        *,
        segments: Int64[Tensor, "B T"] | None = None,
        dead: Bool[Tensor, "B T"] | None = None,
        state: StreamState | None = None,
    ) -> Int64[Tensor, "B T E"]:
        """The rows of ``definition.row_ids_exact``; without a ``state`` the sequences start here.

        ``segments`` numbers the documents of a packed sequence, negative for padding; ``dead``
        marks positions without text.
        """
        return self.look_up(tokens, segments=segments, dead=dead, state=state).ids

    def look_up(
        self,
        tokens: Int64[Tensor, "B T"],
        *,
        segments: Int64[Tensor, "B T"] | None = None,
        dead: Bool[Tensor, "B T"] | None = None,
        state: StreamState | None = None,
    ) -> Lookups:
        """The rows, and which are read (``definition.read_rows_exact``); arguments as above."""
        seen = self._see(tokens, segments, dead, state)
        window = [seen.ids[:, self.spec.max_order - 1 :]]
        window += self._look_back(seen, 0, tokens.shape[1], seen.looks, self.fill)
        ids = self._settle(tokens, window, self._residues(window), starts=state is None)
        return Lookups(ids, self._reads(window, ids))

    def advance(
        self,
        tokens: Int64[Tensor, "B T"],
        *,
        segments: Int64[Tensor, "B T"] | None = None,
        dead: Bool[Tensor, "B T"] | None = None,
        state: StreamState | None = None,
    ) -> StreamState:
        """The state behind ``tokens``, of which there is at least one; arguments as above."""
        seen = self._see(tokens, segments, dead, state)
        newest_first = [*self._look_back(seen, tokens.shape[1], 1, None, _OUT_OF_REACH)]
        newest_first = newest_first or [tokens[:, :0]]  # order 1 sees nothing before
        segment = None if segments is None else segments[:, -1:]
        return StreamState(torch.cat(newest_first[::-1], dim=1).long(), segment)

    def advance_each(
        self, tokens: Int64[Tensor, "B T"], state: StreamState | None = None
    ) -> Int64[Tensor, "B T P"]:
        """The ids of the state behind each of ``tokens``, where documents are not numbered."""
        seen, length = self._see(tokens, None, None, state), tokens.shape[1]
        newest_first = [*self._look_back(seen, 1, length, None, _OUT_OF_REACH)]
        if not newest_first:
            return tokens.new_zeros(*tokens.shape, 0)
        return torch.stack(newest_first[::-1], dim=-1).long()

    def _see(
        self,
        tokens: Int64[Tensor, "B T"],
        segments: Int64[Tensor, "B T"] | None,
        dead: Bool[Tensor, "B T"] | None,
        state: StreamState | None,
    ) -> _Seen:
        """What the policy lets later positions see, behind what the state lets them see."""
        policy = self.spec.policy
        ids, closed, alone = tokens, self._is_boundary(tokens), None
        if policy.ignored_rule in ("zero", "zero_close"):
            ids = ids.masked_fill(self._is_ignored(tokens), 0)
        if policy.ignored_rule in ("zero_close", "exclude"):
            closed = closed | self._is_ignored(tokens)
        if policy.start == "reserved_row" and state is None:
            ids = ids.clone()
            ids[:, :1] = self.spec.table_rows[0]
        if policy.zero_id == "closes":
            alone = ids == 0
        if policy.dead_tokens == "block" and dead is not None:
            ids = ids.masked_fill(dead, self.fill)
            alone = dead if alone is None else alone | dead
        if alone is not None:
            closed = closed | alone
        if policy.ignored_rule == "last_row":
            ids = ids.masked_fill(self._is_ignored(tokens), _IGNORED)
        if segments is not None:
            changes = pad(segments[:, 1:] != segments[:, :-1], (0, 1))
            closed = closed | changes | (segments < 0)
        if state is None:
            past = tokens.new_full((len(tokens), self.spec.max_order - 1), _OUT_OF_REACH)
        else:
            past = state.ids
        reaches = past != _OUT_OF_REACH
        if state is not None and segments is not None:
            assert state.segment is not None
            reaches = reaches & (state.segment == segments[:, :1])
        return _Seen(
            ids=torch.cat([past.to(self.dtype), ids.to(self.dtype)], dim=1),
            open=torch.cat([reaches.to(self.dtype), (~closed).to(self.dtype)], dim=1),
            looks=None if alone is None else (~alone).to(self.dtype),
        )

    def _look_back(
        self, seen: _Seen, first: int, number: int, looks: Tensor | None, instead: int
    ) -> Iterator[Tensor]:
        """c_1 .. c_(N-1) of ``number`` positions from token ``first`` on."""
        above, reach = seen.ids - instead, looks
        for s in range(1, self.spec.max_order):
            at = self.spec.max_order - 1 + first - s
            is_open = seen.open[:, at : at + number]
            reach = is_open if reach is None else reach * is_open
            yield above[:, at : at + number] * reach + instead

    def _residues(self, window: list[Tensor]) -> Int64[Tensor, "B T E"]:
        """The hash of every n-gram, modulo the rows."""
        if torch.compiler.is_compiling():
            # Tables last: one vectorised pass. Stacked, the look-back is computed once, not for
            # each table.
            axis, weights, rows = -1, self.weights, self.rows
            window = list(torch.stack(window))
        else:
            # Tables first: eager kernels are quick in long inner loops only.
            axis, weights, rows = 0, self.weights[:, :, None, None], self.rows[:, None, None]
        total = window[0].unsqueeze(axis) * weights[0]
        for ids, of_place in zip(window[1:], weights[1:], strict=True):
            if isinstance(self.spec.hash, XorHash):
                total = total ^ ids.unsqueeze(axis) * of_place
            elif self.reduce_products:
                total = total % rows + ids.unsqueeze(axis) * of_place % rows
            else:
                total.addcmul_(ids.unsqueeze(axis), of_place)
        if self.dtype == torch.float64:
            # Exact: all terms and sums are integers up to 2**53. If k is the integer above the
            # quotient x/M, then x/M <= k - 1/M, further from k than half of the spacing of floats
            # there, k/2**53, since k M < x + M <= 2**53: rounding cannot carry the quotient to k.
            quotient = (total / rows).floor_()
            rest = total.addcmul_(quotient, rows, value=-1)
            # The mantissa of 2**52 + rest is rest; to(int64) is slow on AVX2 and another 8 bytes.
            ids = rest.add_(2.0**52).view(torch.int64).sub_(_BITS_OF_2_52)
        else:
            if self.spec.hash.arithmetic == "uint32":
                total = total & 2**32 - 1
            elif self.spec.hash.arithmetic == "int32":
                total = ((total & 2**32 - 1) ^ 2**31) - 2**31
            ids = total % rows
        return ids.movedim(axis, -1)

    def _settle(
        self,
        tokens: Int64[Tensor, "B T"],
        window: list[Int64[Tensor, "B T"]],
        ids: Int64[Tensor, "B T E"],
        *,
        starts: bool,
    ) -> Int64[Tensor, "B T E"]:
        """Positions whose rows the policy fixes, whatever the hash says."""
        policy = self.spec.policy
        if policy.ignored_rule == "last_row":
            nearest = self._nearest(window, lambda place: place == _IGNORED)
            ids = torch.where(nearest.unsqueeze(-1) < self.orders, self.rows.long() - 1, ids)
        if policy.at_boundary == "row_zero":
            ids = ids.masked_fill(self._is_boundary(tokens).unsqueeze(-1), 0)
        if policy.start != "fill" and starts:
            ids[:, :1] = 0 if policy.start == "row_zero" else self.spec.table_rows[0]
        if policy.ignored_rule == "exclude":
            ids = ids.masked_fill(self._is_ignored(tokens).unsqueeze(-1), NO_ROW)
        return ids

    def _reads(
        self, window: list[Int64[Tensor, "B T"]], ids: Int64[Tensor, "B T E"]
    ) -> Bool[Tensor, "B T E"] | None:
        policy = self.spec.policy
        if policy.row_zero == "zero_vector":
            return ids > 0
        if policy.row_zero == "zero_vector_before_modulus":
            nearest = self._nearest(window, lambda place: place != 0)
            return (nearest.unsqueeze(-1) < self.orders) & (ids != NO_ROW)
        return ids != NO_ROW if policy.ignored_rule == "exclude" else None

    def _nearest(
        self, window: list[Int64[Tensor, "B T"]], found: Callable[[Tensor], Tensor]
    ) -> Int64[Tensor, "B T"]:
        """The first place that is ``found``, N where none is."""
        nearest = torch.full_like(window[0], self.spec.max_order, dtype=torch.long)
        for s, place in reversed([*enumerate(window)]):
            nearest = nearest.masked_fill(found(place), s)
        return nearest

    def averaged(self, tokens: Int64[Tensor, "B T"]) -> Bool[Tensor, "B T"] | None:
        """``definition.averaged_exact``; None where that is everywhere."""
        policy, averaged = self.spec.policy, None
        if policy.ignored_rule in ("zero", "zero_close", "exclude"):
            averaged = ~self._is_ignored(tokens)
        if policy.row_zero == "zero_vector_before_modulus":
            averaged = tokens != 0 if averaged is None else averaged & (tokens != 0)
        return averaged

    def _is_boundary(self, tokens: Int64[Tensor, "B T"]) -> Bool[Tensor, "B T"]:
        found = torch.zeros_like(tokens, dtype=torch.bool)
        for token in self.spec.policy.boundary_tokens:
            found = found | (tokens == token)
        return found

    def _is_ignored(self, tokens: Int64[Tensor, "B T"]) -> Bool[Tensor, "B T"]:
        found = torch.zeros_like(tokens, dtype=torch.bool)
        for first, end in self.spec.policy.ignored_ranges:
            found = found | ((tokens >= first) & (tokens < end))
        return found
