"""CPU time of the forms that one request could run in, batch 1; `make bench` runs it.

    python -m tests.benchmarks.bench_serving_forms

One user with twenty events and 200 candidates, one thread, CPU time, medians: over turns that all take one after the
other, which leaves each the caches of the others, and over twenty calls in a row, as a worker answers. First the sizes
of the default run: the teacher and students in PyTorch, the students as they are served, a student whose linear maps
and GRU are 8-bit, and one whose GRU runs in ONNX Runtime; then teacher and served student at the sizes of every log's
config; then, as a yardstick, a head of 64 + 64 -> 128 -> 64 -> 1 (not our architecture). `pip install onnx onnxruntime`
adds the ONNX rows; without both they are left out, and said to be.
"""

import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from pipelines.configuration import resolve_config
from pipelines.experiments.ranking import CONFIGS
from pipelines.experiments.stopwatch import cpu_ms, cpu_ms_in_a_row
from recsys.adaptation import AdaptationPrior, adapt_to_first
from recsys.candidates.inner_products import inner_products
from recsys.config import RunConfig
from recsys.mdp.state import History, encode_states
from recsys.models.item_table import ItemTable
from recsys.models.q_network import NetworkShape, QNetwork
from recsys.models.student import StudentNetwork
from recsys.request_form import RequestForm

EVENTS, CANDIDATES, DISCOUNT, TURNS = 20, 200, 0.5, 60
ONNX = all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime"))

Forms = dict[str, Callable[[], object]]


@dataclass(frozen=True)
class Sizes:
    """What teacher and student are made for: a config, and what its log has."""

    config: str
    items: int
    event_types: int
    attributes: tuple[int, ...]

    @property
    def settings(self) -> RunConfig:
        return resolve_config(self.config, [])

    @property
    def shape(self) -> NetworkShape:
        """The teacher's."""
        settings = self.settings
        return NetworkShape(
            items=self.items,
            content_features=settings.prepare.content_features,
            item_features=settings.model.item_features,
            hidden=settings.model.hidden,
            layers=settings.model.layers,
            encoder=settings.model.encoder,
            event_types=self.event_types,
            attribute_sizes=self.attributes,
            max_events=settings.state.max_events,
            dropout=0.0,
            id_dropout=0.0,
            memory_features=settings.memory.features,
        )


DEFAULT = Sizes("default", 3_812, 4, (20,))
BY_LOG = {
    "Online Retail": Sizes(str(CONFIGS / "online-retail.toml"), 3_812, 4, (20,)),
    "The Complete Journey": Sizes(str(CONFIGS / "complete-journey.toml"), 92_331, 4, (6, 4, 4, 5, 12, 4, 2)),
    "MovieLens-100K": Sizes(str(CONFIGS / "ml-100k.toml"), 1_682, 1, (7, 2, 21, 11)),
    "MovieLens-1M": Sizes(str(CONFIGS / "ml-1m.toml"), 3_883, 1, (7, 2, 21, 11)),
}


def a_history(sizes: Sizes) -> History:
    generator = np.random.default_rng(0)
    return History(
        generator.integers(0, sizes.items, EVENTS).astype(np.int32),
        generator.integers(0, sizes.event_types, EVENTS).astype(np.int8),
        np.ones(EVENTS, np.float32),
        np.sort(generator.integers(0, 10**6, EVENTS)),
        np.sort(generator.integers(0, 4, EVENTS)).astype(np.int32),
        np.ones(len(sizes.attributes), np.int32),
    )


class One:
    """One user who asks networks of some sizes."""

    def __init__(self, sizes: Sizes) -> None:
        torch.manual_seed(0)
        self.settings, self.shape, self.history = sizes.settings, sizes.shape, a_history(sizes)
        items, width, features = sizes.items, self.shape.vector_features, self.settings.factors.features
        self.items = torch.arange(0, items, items // CANDIDATES)[:CANDIDATES]
        amortised = self.settings.metatrain.amortised_features
        prior = AdaptationPrior(features, sizes.event_types, sizes.attributes, amortised)
        self.prior = prior.requires_grad_(False)
        vectors, phi = torch.randn(items, width) / width**0.5, torch.randn(items, features) / 16
        self.table = ItemTable.of(vectors, torch.randn(items), phi)
        self.columns = self.table.index_vectors().numpy()

    def teacher(self) -> QNetwork:
        return QNetwork(self.shape, 0.1).eval().requires_grad_(False)

    def student(self, encoder: str) -> StudentNetwork:
        hidden = self.settings.distill.hidden
        shape = replace(self.shape, encoder=encoder, layers=1, hidden=hidden, behavior=False)
        made = StudentNetwork(shape).eval().requires_grad_(False)
        made.vectors = self.table.vectors
        return made

    def in_torch(self, network: QNetwork | StudentNetwork) -> Callable[[], object]:
        items, table = self.items, self.table

        @torch.inference_mode()
        def answer() -> object:
            batch = encode_states([self.history], 50)
            states = network.state_vectors(batch)
            fast = adapt_to_first(batch, states, table, self.prior, batch.lengths, DISCOUNT)
            q = states.value[0, -1] + table.vectors[items] @ states.advantage[0, -1] + table.bias[items]
            return q + table.features[items] @ fast.mean[0]

        return answer

    def in_numpy(self, network: StudentNetwork, encode: Any = None) -> Callable[[], object]:
        form, places = RequestForm(network, self.prior, self.table, 50, DISCOUNT), self.items.numpy()
        if encode is not None:
            form._state._encode = encode

        def answer() -> object:
            query, _ = form.query(self.history, adapt=True, memory=True)
            return inner_products(self.columns, places, query[:-1]) + query[-1]

        return answer


def of_the_default_run() -> Forms:
    """Return what answers for one user at the sizes of the default run."""
    one = One(DEFAULT)
    gated, gru = one.student("gated"), one.student("recurrent")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this way of quantising is old; the new one needs a compiler
        eight_bit = torch.ao.quantization.quantize_dynamic(gru, {nn.Linear, nn.GRU}, torch.qint8)
    forms: Forms = {
        "teacher, PyTorch": one.in_torch(one.teacher()),
        "student with a GRU, PyTorch": one.in_torch(gru),
        "  its maps and GRU in 8 bits, PyTorch": one.in_torch(eight_bit),
        "  numpy": one.in_numpy(gru),
        "student with gates, PyTorch": one.in_torch(gated),
        "  numpy (served)": one.in_numpy(gated),
    }
    if ONNX:
        forms["student with a GRU, numpy and ONNX Runtime"] = one.in_numpy(gru, onnx_gru(gru))
    return forms


def of_a_log(sizes: Sizes) -> Forms:
    """Return the teacher and the student that is served, at the sizes of a log's config."""
    one = One(sizes)
    return {
        "teacher, PyTorch": one.in_torch(one.teacher()),
        "student (served)": one.in_numpy(one.student("gated")),
    }


def session_of(graph: Any) -> Any:
    """Return a session of one thread."""
    import onnxruntime
    from onnx import helper

    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])


def onnx_gru(student: StudentNetwork) -> Callable[[History, np.ndarray], np.ndarray]:
    """Return the encoder with its recurrence in ONNX Runtime, whose gates stand in the order update, reset, new."""
    from onnx import TensorProto, helper, numpy_helper

    tokens, gru = student.states.tokens, student.states.encoder.gru  # type: ignore[union-attr]
    hidden = gru.hidden_size

    def reordered(weight: torch.Tensor) -> np.ndarray:
        reset, update, new = np.split(weight.numpy(), 3)
        return np.concatenate([update, reset, new])[None]

    biases = np.concatenate([reordered(gru.bias_ih_l0), reordered(gru.bias_hh_l0)], axis=-1)
    weights = {"W": reordered(gru.weight_ih_l0), "R": reordered(gru.weight_hh_l0), "B": biases}
    node = helper.make_node("GRU", ["X", "W", "R", "B"], ["Y"], hidden_size=hidden, linear_before_reset=1)
    graph = helper.make_graph(
        [node],
        "gru",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, 1, hidden])],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    session = session_of(graph)
    project, bias = tokens.project.weight.numpy().T.copy(), tokens.project.bias.numpy()
    start, country = tokens.start.numpy(), next(tokens.attributes.parameters()).numpy()

    def encode(history: History, raw: np.ndarray) -> np.ndarray:
        read = np.empty((len(raw) + 1, 1, hidden), np.float32)
        read[0, 0] = start + country[history.attributes[0]]
        read[1:, 0] = raw @ project + bias
        states: np.ndarray = session.run(None, {"X": read})[0][:, 0, 0]
        return states

    return encode


def of_the_yardstick() -> Forms:
    """Return forms of a head over [state, item], 64 + 64 -> 128 -> 64 -> 1."""
    torch.manual_seed(0)
    head = nn.Sequential(nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 1))
    head.requires_grad_(False)
    state, items = torch.randn(1, 64), torch.randn(CANDIDATES, 64)
    weights = [(m.weight.numpy().T.copy(), m.bias.numpy()) for m in head if isinstance(m, nn.Linear)]
    (first, first_bias), (second, second_bias), (third, third_bias) = weights
    of_items = items.numpy() @ first[64:] + first_bias
    own, s = items.numpy(), state.numpy()

    @torch.inference_mode()
    def eager() -> object:
        return head(torch.cat([state.expand(CANDIDATES, -1), items], dim=1))

    @torch.inference_mode()
    def split() -> object:
        layer = head[0]
        seen = state @ layer.weight[:, :64].T + items @ layer.weight[:, 64:].T + layer.bias
        return head[2:](torch.relu(seen))

    def by_numpy() -> object:
        hidden = np.maximum(of_items + s @ first[:64], 0.0)
        return np.maximum(hidden @ second + second_bias, 0.0) @ third + third_bias

    forms: Forms = {
        "PyTorch": eager,
        "PyTorch, state half once": split,
        "numpy, items projected before": by_numpy,
    }
    if ONNX:
        from onnx import TensorProto, helper, numpy_helper

        nodes, at = [], "X"
        values = {
            f"{kind}{place}": value
            for place, pair in enumerate(weights)
            for kind, value in zip("WB", pair, strict=True)
        }
        for place in range(3):
            nodes.append(helper.make_node("Gemm", [at, f"W{place}", f"B{place}"], [f"h{place}"]))
            at = f"h{place}"
            if place < 2:
                nodes.append(helper.make_node("Relu", [at], [f"r{place}"]))
                at = f"r{place}"
        graph = helper.make_graph(
            nodes,
            "head",
            [helper.make_tensor_value_info("X", TensorProto.FLOAT, [CANDIDATES, 128])],
            [helper.make_tensor_value_info(at, TensorProto.FLOAT, None)],
            [numpy_helper.from_array(value, name) for name, value in values.items()],
        )
        session = session_of(graph)
        forms["ONNX Runtime"] = lambda: session.run(
            None, {"X": np.concatenate([np.broadcast_to(s, (CANDIDATES, 64)), own], axis=1)}
        )
    return forms


def bench() -> None:
    """Print the tables."""
    torch.set_num_threads(1)
    for title, forms in (
        ("one user, 20 events, 200 candidates, sizes of the default run", of_the_default_run()),
        *((f"the same, sizes of {log}", of_a_log(sizes)) for log, sizes in BY_LOG.items()),
        ("yardstick: a head of 64 + 64 -> 128 -> 64 -> 1, 200 candidates", of_the_yardstick()),
    ):
        print(f"\nCPU time of one answer: {title}; by turns, and twenty in a row")
        told, in_a_row = cpu_ms(forms, TURNS), cpu_ms_in_a_row(forms)
        longest, longest_of_row = next(iter(told.values())), next(iter(in_a_row.values()))
        for name, middle in told.items():
            row = in_a_row[name]
            print(
                f"  {name:<46} {middle:7.3f} ms  {middle / longest:5.3f}   {row:7.3f} ms  {row / longest_of_row:5.3f}"
            )
    if not ONNX:
        print("no ONNX rows: onnx and onnxruntime are not both installed")


def test_speed_of_serving_forms() -> None:
    bench()


if __name__ == "__main__":
    bench()
