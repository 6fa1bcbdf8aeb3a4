"""The ceiling: a bare composite of the same parts, without store, log, propensity checks, metrics or keys.

100 k unit vectors of 64 features in IVF-SQ8, the user's events in a dictionary, a closed-form ridge head over 20 of
them, 200 candidates ranked, 20 drawn by Gumbel with propensities, JSON by orjson on FastAPI's raw route.
"""

import os

import faiss
import numpy as np
import orjson
from fastapi import FastAPI, Request, Response
from scipy.linalg import cho_factor, cho_solve

ITEMS = int(os.environ.get("COMPOSITE_ITEMS", "100000"))
WIDTH, CANDIDATES, EVENTS = 64, 200, 20


def clustered(items: int, width: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(int(items**0.5), width))
    rows = centres[generator.integers(len(centres), size=items)] + 0.5 * generator.normal(size=(items, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


faiss.omp_set_num_threads(1)
vectors = clustered(ITEMS, WIDTH)
index = faiss.index_factory(WIDTH, f"IVF{int(4 * ITEMS**0.5)},SQ8", faiss.METRIC_INNER_PRODUCT)
index.train(vectors[:: max(1, ITEMS // 100_000)])
index.add(vectors)
index.nprobe = 16
app = FastAPI()
draws = np.random.default_rng(0)


@app.post("/v1/recommend")
async def recommend(request: Request) -> Response:
    asked = orjson.loads(await request.body())
    user = int(asked["user"][1:])
    seen = (user * 7 + np.arange(EVENTS) * 131) % ITEMS
    phi = vectors[seen]
    weights = phi.T @ cho_solve(
        cho_factor(phi @ phi.T + 0.5 * np.eye(EVENTS, dtype=np.float32)), np.ones(EVENTS)
    )
    query = (weights + phi.mean(axis=0)).astype(np.float32)
    _, found = index.search(query[None], CANDIDATES + EVENTS)
    items = found[0][~np.isin(found[0], seen)][:CANDIDATES]
    scores = vectors[items] @ query
    logits = (scores - scores.max()) / 0.02
    order = np.argsort(-(logits + draws.gumbel(size=len(logits))))
    left = np.logaddexp.accumulate(logits[order][::-1])[::-1]
    n = asked["n"]
    chance = np.exp(logits[order][:n] - left[:n])
    content = orjson.dumps(
        {
            "items": [
                {"item_id": f"i{item}", "score": score, "propensity": propensity, "position": position}
                for position, (item, score, propensity) in enumerate(
                    zip(items[order][:n].tolist(), scores[order][:n].tolist(), chance.tolist(), strict=True)
                )
            ]
        }
    )
    return Response(content, media_type="application/json")
