"""The student's state network for one user, on numpy arrays: what a request runs.

One user's state is some hundred operations on tiny arrays, and what each costs in PyTorch is its dispatch. This form
is made from a student's weights, holds no weight of its own and says the same to 1e-5 (tests/test_request_form.py);
training and evaluation never meet it. Padding does not occur, the behaviour head is not asked, and two products of
weights are taken once: what the GRU reads of a token is one map of [e_i; reward, gap, session],

    W_ih (W_p [e_i + E_type; numbers] + b_p) + b_ih,

and σ(x) = (1 + tanh(x / 2)) / 2, so that both its gates are one tanh of weights that are halved beforehand. Products
are `dot`: for tiny matrices it costs half of what `@` does.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch.nn.functional import softplus

from recsys.mdp.state import History, between_tokens
from recsys.models.history_memory import HOURS_PER_MONTH, HistoryMemory
from recsys.models.session_encoder import GatedEncoder, RecurrentEncoder, SessionEncoder, TokenProjection
from recsys.models.small_gram import gram, inverse_factor
from recsys.models.student import StudentNetwork
from recsys.types import FloatArray, IntArray

Encode = Callable[
    [History, FloatArray], FloatArray
]  # raw tokens, (time, feature + 3) -> states, (time + 1, hidden)


KEPT_STARTS = 4_096  # kinds of users whose start is kept, some hundred numbers each
KEPT_LENGTH = 128  # what histories of one length share is kept up to this one: 6 MB at most


@dataclass(frozen=True)
class RequestStates:
    """The states of one user around the events; as StateVectors, without what only training asks."""

    advantage: FloatArray  # f(s), (time + 1, feature)
    value: FloatArray  # V(s), (time + 1,)
    behavior_return: FloatArray  # U(s), (time + 1,)


class RequestState:
    """History -> states, from the weights of a student."""

    def __init__(self, student: StudentNetwork) -> None:
        states = student.states
        self.learnt = states.learnt
        self._event_type = array(states.tokens.event_type.weight)
        self._encode = _encode_of(states.tokens, states.encoder)
        heads = [states.advantage, states.scalars]
        self._heads = array(torch.cat([head.weight for head in heads]).T)
        self._head_bias = array(torch.cat([head.bias for head in heads]))
        self._dueling = states.dueling
        self._memory = None if states.memory is None else RequestMemory(states.memory)

    def of(self, history: History, vectors: FloatArray) -> RequestStates:
        """Return the states of a history given the vectors e_i of its items, (time, feature)."""
        learnt = self.learnt
        log_gap, new_session = between_tokens(history.timestamp, history.session, slice(0, 1))
        raw = np.empty((len(history), learnt + 3), np.float32)
        np.add(vectors[:, :learnt], self._event_type[history.event_type], out=raw[:, :learnt])
        raw[:, learnt], raw[:, learnt + 1], raw[:, learnt + 2] = history.reward, log_gap, new_session
        said = self._encode(history, raw).dot(self._heads)
        said += self._head_bias
        value = said[:, learnt] if self._dueling else np.zeros(len(said), np.float32)
        advantage = said[:, :learnt]
        if self._memory is not None:
            advantage = np.empty((len(said), vectors.shape[1]), np.float32)
            advantage[:, :learnt] = said[:, :learnt]
            self._memory.asked(history, log_gap, new_session, vectors[:, learnt:], out=advantage[:, learnt:])
        return RequestStates(advantage, value, said[:, learnt + 1])


class RequestMemory:
    """D m(s) of recsys/models/history_memory.py."""

    def __init__(self, memory: HistoryMemory) -> None:
        self._by_type = 1.0 + array(memory.by_type)
        self._by_reward = array(memory.by_reward)
        self._age_rate = number(softplus(memory.by_age))
        self._hour_rate = array(softplus(memory.by_time)).astype(np.float64) / HOURS_PER_MONTH
        self._same_session = array(memory.same_session)
        self._noise = array(memory.log_noise.exp())
        self._doubt = array(memory.log_doubt.exp())[:, None]
        self._less = -np.stack([array(memory.length_power), array(memory.explained_power)])[:, None]
        self._explained = array(memory.log_explained.exp())
        self._least_said = array(memory.least_said)
        self._readout = array(memory.log_readout.exp())
        self._of_length: dict[int, tuple[FloatArray, FloatArray, FloatArray]] = {}

    def asked(
        self,
        history: History,
        log_gap: FloatArray,
        new_session: FloatArray,
        memory: FloatArray,
        out: FloatArray,
    ) -> None:
        """Write D m of the states, (time + 1, feature), from μ, (time, feature)."""
        out[0] = 0.0
        memory = np.ascontiguousarray(memory)
        time = len(history)
        if not time:
            return
        age, future, until = self._of_length.get(time) or self._shared(time)
        trust = self._by_type[history.event_type]
        trust += self._by_reward * history.reward
        np.maximum(trust, self._least_said, out=trust)
        # row t is the state after event t, column j an event up to it: what lies between is a difference of two places
        place = np.add.accumulate(np.expm1(log_gap), dtype=np.float64)
        place *= self._hour_rate
        place += age
        weight = (place - place[:, None]).astype(np.float32)
        weight += future
        session = np.add.accumulate(new_session)
        np.add(weight, self._same_session, out=weight, where=session == session[:, None])
        np.exp(weight, out=weight)
        heard = weight.dot(np.abs(trust))
        # of both parts, (2, time): d n^-power
        scale = np.maximum(heard, _ONE) ** self._less
        scale *= heard / np.maximum(heard + self._doubt, _TINY)
        weight *= trust
        weight *= scale[0, :, None]
        if self._explained:
            inverse = inverse_factor(gram(memory), self._noise)
            scale[1] *= self._explained
            steps = until * inverse.dot(trust)
            steps *= scale[1, :, None]
            weight += steps.dot(inverse)
        np.matmul(weight, memory * self._readout, out=out[1:])

    def _shared(self, time: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return what every history of so many events shares: α · age, −∞ after row t, and 1 up to row t, else 0."""
        until = np.tri(time, dtype=np.float32)
        found = np.arange(time) * self._age_rate, np.where(until, _ZERO, -_INFINITE), until
        if time <= KEPT_LENGTH:
            self._of_length[time] = found
        return found


def _encode_of(tokens: TokenProjection, encoder: SessionEncoder) -> Encode:
    """Return what encodes raw tokens: on arrays for gates and for one layer of GRU, else by the module itself."""
    if isinstance(encoder, GatedEncoder):
        return RequestGates(tokens, encoder).states
    if isinstance(encoder, RecurrentEncoder) and encoder.gru.num_layers == 1:
        return RequestGru(tokens, encoder.gru).states
    project, start, tables = tokens.project, tokens.start, list(tokens.attributes.parameters())

    def encode(history: History, raw: FloatArray) -> FloatArray:
        with torch.inference_mode():
            begun = start[None]
            for code, table in zip(history.attributes.tolist(), tables, strict=True):
                begun = begun + table[code]
            encoded: FloatArray = encoder(begun, project(torch.from_numpy(raw))[None])[0].numpy()
        return encoded

    return encode


class Starts:
    """Where users begin, (row,), by their attributes: a vector plus one row of every table, if there are tables."""

    def __init__(self, start: FloatArray, tables: Sequence[FloatArray]) -> None:
        self._start, self._tables = start, tables
        self._of_codes = lru_cache(KEPT_STARTS)(self._sum)

    def of(self, attributes: IntArray) -> FloatArray:
        """Return where users of some codes, (attribute,), begin; who writes into it must copy it."""
        return self._of_codes(*attributes.tolist())

    def _sum(self, *codes: int) -> FloatArray:
        found = self._start.copy()
        for table, code in zip(self._tables, codes, strict=bool(self._tables)):
            found += table[code]
        found.flags.writeable = False
        return found


class TokenMap:
    """W (token or start vector) + b for every place of a history, with the projection of tokens taken into W."""

    def __init__(self, tokens: TokenProjection, weight: FloatArray, bias: FloatArray) -> None:
        self._weight = np.ascontiguousarray((weight @ array(tokens.project.weight)).T)
        self._bias = weight @ array(tokens.project.bias) + bias
        tables = [array(table) @ weight.T for table in tokens.attributes.parameters()]
        self._starts = Starts(weight @ array(tokens.start) + bias, tables)

    def of(self, history: History, raw: FloatArray) -> FloatArray:
        """Return (time + 1, row of W) from raw tokens, (time, feature + 3)."""
        read = np.empty((len(raw) + 1, len(self._bias)), np.float32)
        read[0] = self._starts.of(history.attributes)
        np.dot(raw, self._weight, out=read[1:])
        read[1:] += self._bias
        return read


class RequestGates:
    """The mix of GatedEncoder."""

    def __init__(self, tokens: TokenProjection, encoder: GatedEncoder) -> None:
        halved = np.ones(encoder.gates.out_features, np.float32)
        halved[: len(halved) // 2] = 0.5
        weight, bias = map(array, encoder.gates.parameters())
        self._map = TokenMap(tokens, weight * halved[:, None], bias * halved)

    def states(self, history: History, raw: FloatArray) -> FloatArray:
        """Return the hidden states around raw tokens."""
        read = np.tanh(self._map.of(history, raw))
        hidden = read.shape[1] // 2
        half = _HALF * read[:, :hidden]
        states = half + _HALF
        states *= read[:, hidden:]
        # h_t = kept_t h_{t-1} + states_t, all places at once in log₂ of their number steps (Hillis and Steele 1986);
        # `kept` is of the places from `ahead` on, for those before have their state
        kept, ahead = _HALF - half[1:], 1
        while ahead < len(states):
            states[ahead:] += kept * states[:-ahead]
            kept = kept[ahead:] * kept[:-ahead]
            ahead *= 2
        return states


class RequestGru:
    """A GRU (Cho et al. 2014)."""

    def __init__(self, tokens: TokenProjection, gru: torch.nn.GRU) -> None:
        hidden = gru.hidden_size
        halved = np.ones(3 * hidden, np.float32)
        halved[: 2 * hidden] = 0.5  # reset and update gates
        read, kept, read_bias, kept_bias = map(array, gru.parameters())  # in PyTorch's order, of one layer
        both = read_bias.copy()
        both[: 2 * hidden] += kept_bias[: 2 * hidden]  # the new state's is behind its reset gate
        self._map = TokenMap(tokens, read * halved[:, None], both * halved)
        # ½: of the gates' tanh, and of the factor (1 + tanh) that the reset gate is
        self._kept = np.ascontiguousarray(kept.T) * np.float32(0.5)
        self._kept_bias = kept_bias[2 * hidden :] * np.float32(0.5)

    def states(self, history: History, raw: FloatArray) -> FloatArray:
        """Return the hidden states around raw tokens."""
        hidden = len(self._kept)
        read = self._map.of(history, raw)
        states = np.zeros((len(read) + 1, hidden), np.float32)
        kept = np.empty(3 * hidden, np.float32)
        gates, new = kept[: 2 * hidden], kept[2 * hidden :]
        reset, update = gates[:hidden], gates[hidden:]
        dot, add, multiply, subtract, tanh = np.dot, np.add, np.multiply, np.subtract, np.tanh
        weights, bias, before = self._kept, self._kept_bias, states[0]
        for of_gates, of_new, now in zip(
            read[:, : 2 * hidden], read[:, 2 * hidden :], states[1:], strict=True
        ):
            dot(before, weights, out=kept)
            add(gates, of_gates, out=gates)
            add(tanh(gates, out=gates), 1.0, out=gates)  # 2σ
            multiply(add(new, bias, out=new), reset, out=new)
            tanh(add(new, of_new, out=new), out=new)
            subtract(before, new, out=now)
            multiply(multiply(now, update, out=now), 0.5, out=now)
            before = add(now, new, out=now)
        return states[1:]


def array(parameter: torch.Tensor) -> FloatArray:
    """Return the numbers of a parameter."""
    numbers: FloatArray = parameter.detach().numpy()
    return numbers


def number(parameter: torch.Tensor) -> float:
    """Return the one number of a parameter."""
    return float(parameter.detach())


# numpy converts a number anew at every call, an array of one it takes as it is
_ZERO, _TINY, _HALF, _ONE, _INFINITE = (np.full((), x, np.float32) for x in (0.0, 1e-6, 0.5, 1.0, np.inf))
