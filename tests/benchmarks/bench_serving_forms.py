"""CPU time of the forms that one request could run in, batch 1; `make bench` runs it.

    python -m tests.benchmarks.bench_serving_forms

One user with twenty events and 200 candidates, one thread, CPU time, medians over turns that all take one after the
other. First the sizes of the default run: the teacher and students in PyTorch, the students as they are served, a
student whose linear maps and GRU are 8-bit, and one whose GRU runs in ONNX Runtime. Then, as a yardstick, a head of
64 + 64 -> 128 -> 64 -> 1 (not our architecture). `pip install onnx onnxruntime` adds the ONNX rows; without both they
are left out, and said to be.
"""

import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from pipelines.experiments.stopwatch import cpu_ms
from recsys.adaptation import AdaptationPrior, adapt_to_first
from recsys.mdp.state import History, encode_states
from recsys.models.item_table import ItemTable
from recsys.models.q_network import NetworkShape, QNetwork
from recsys.models.student import StudentNetwork
from recsys.request_form import RequestForm

ITEMS, EVENTS, CANDIDATES, FEATURES, DISCOUNT, TURNS = 4_000, 20, 200, 256, 0.5, 60
SHAPE = NetworkShape(ITEMS, 64, 64, 96, 1, "recurrent", 4, (38,), 50, 0.0, 0.0, memory_features=512)
ONNX = all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime"))

Forms = dict[str, Callable[[], object]]


def a_history() -> History:
    generator = np.random.default_rng(0)
    return History(
        generator.integers(0, ITEMS, EVENTS).astype(np.int32),
        generator.integers(0, 4, EVENTS).astype(np.int8),
        np.ones(EVENTS, np.float32),
        np.sort(generator.integers(0, 10**6, EVENTS)),
        np.sort(generator.integers(0, 4, EVENTS)).astype(np.int32),
        np.array([1], np.int32),
    )


def of_the_default_run() -> Forms:
    """Return what answers for one user at the sizes of the default run."""
    torch.manual_seed(0)
    history, items = a_history(), torch.arange(0, ITEMS, ITEMS // CANDIDATES)
    prior = AdaptationPrior(FEATURES, 4, (38,), 32).requires_grad_(False)
    table = ItemTable.of(torch.randn(ITEMS, 576) / 24, torch.randn(ITEMS), torch.randn(ITEMS, FEATURES) / 16)
    columns, places = table.index_vectors().numpy(), items.numpy()

    def student(encoder: str, hidden: int) -> StudentNetwork:
        shape = replace(SHAPE, encoder=encoder, hidden=hidden, behavior=False)
        made = StudentNetwork(shape).eval().requires_grad_(False)
        made.vectors = table.vectors
        return made

    def in_torch(network: QNetwork | StudentNetwork) -> Callable[[], object]:
        @torch.inference_mode()
        def answer() -> object:
            batch = encode_states([history], 50)
            states = network.state_vectors(batch)
            fast = adapt_to_first(batch, states, table, prior, batch.lengths, DISCOUNT)
            q = states.value[0, -1] + table.vectors[items] @ states.advantage[0, -1] + table.bias[items]
            return q + table.features[items] @ fast.mean[0]

        return answer

    def in_numpy(network: StudentNetwork, encode: Any = None) -> Callable[[], object]:
        form = RequestForm(network, prior, table, 50, DISCOUNT)
        if encode is not None:
            form._state._encode = encode

        def answer() -> object:
            query, _ = form.query(history, adapt=True, memory=True)
            return columns[places] @ query[:-1] + query[-1]

        return answer

    gated, gru = student("gated", 32), student("recurrent", 32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this way of quantising is old; the new one needs a compiler
        eight_bit = torch.ao.quantization.quantize_dynamic(gru, {nn.Linear, nn.GRU}, torch.qint8)
    forms: Forms = {
        "teacher, PyTorch": in_torch(QNetwork(SHAPE, 0.1).eval().requires_grad_(False)),
        "student with a GRU, PyTorch": in_torch(gru),
        "  its maps and GRU in 8 bits, PyTorch": in_torch(eight_bit),
        "  numpy": in_numpy(gru),
        "student with gates, PyTorch": in_torch(gated),
        "  numpy (served)": in_numpy(gated),
    }
    if ONNX:
        forms["student with a GRU, numpy and ONNX Runtime"] = in_numpy(gru, onnx_gru(gru))
    return forms


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
    """Print both tables."""
    torch.set_num_threads(1)
    for title, forms in (
        ("one user, 20 events, 200 candidates, sizes of the default run", of_the_default_run()),
        ("yardstick: a head of 64 + 64 -> 128 -> 64 -> 1, 200 candidates", of_the_yardstick()),
    ):
        print(f"\nCPU time of one answer: {title}")
        told = cpu_ms(forms, TURNS)
        longest = next(iter(told.values()))
        for name, middle in told.items():
            print(f"  {name:<46} {middle:7.3f} ms  {middle / longest:5.2f}")
    if not ONNX:
        print("no ONNX rows: onnx and onnxruntime are not both installed")


def test_speed_of_serving_forms() -> None:
    bench()


if __name__ == "__main__":
    bench()
