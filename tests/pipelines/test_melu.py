"""The MeLU protocol: its marks where they are known, and a head that learns a taste that is there."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.experiments import melu
from pipelines.experiments.melu import Judged, blended, chosen_share
from pipelines.experiments.melu_data import (
    QUERY,
    WARM,
    Movies,
    Ratings,
    Tasks,
    absolute_error,
    films_before,
    ndcg3,
    read,
    stem,
    tasks,
    with_earlier,
)
from pipelines.experiments.melu_head import HeadSettings, RatingHead, learn, padded
from pipelines.experiments.melu_items import read_details
from pipelines.experiments.melu_peers import Biases, ItemKnn, item_biases
from recsys.errors import UserError

USERS, ITEMS, GENRES = 240, 60, 4


@pytest.fixture(scope="module")
def movies() -> Movies:
    """Users who like one of four genres and give it three stars more; the last ten items are never rated in `warm`."""
    chance = np.random.default_rng(0)
    genre = np.arange(ITEMS) % GENRES
    content = np.column_stack([np.ones(ITEMS), genre[:, None] == np.arange(GENRES)]).astype(np.float32)
    liked = chance.integers(GENRES, size=USERS)
    user = np.repeat(np.arange(USERS, dtype=np.int32), 30)
    item = np.concatenate([np.sort(chance.permutation(ITEMS)[:30]) for _ in range(USERS)]).astype(np.int32)
    level = np.where(genre[item] == liked[user], 5, 2) - (chance.random(len(user)) < 0.2)
    everything = Ratings(user, item, level.astype(np.float32))
    old = (user < 180) & (item < ITEMS - 10)
    parts = {WARM: everything.at(np.flatnonzero(old)), "cold": everything.at(np.flatnonzero(user >= 180))}
    return Movies(
        parts,
        content,
        np.ones((USERS, 1), np.int64),
        (1,),
        np.full(ITEMS, 1990.0),
        np.full((ITEMS, 3), -1),
        np.zeros((ITEMS, 0), np.int32),
    )


@pytest.fixture(scope="module")
def cold(movies: Movies) -> Tasks:
    return tasks(movies.parts["cold"], np.random.default_rng(1))


@pytest.fixture(scope="module")
def head(movies: Movies) -> RatingHead:
    torch.manual_seed(0)
    settings = HeadSettings(features=4, amortised=4, epochs=12, batch=16, learning_rate=1e-2)
    return learn(movies, movies.parts[WARM], settings, np.random.default_rng(2))


def test_a_task_asks_ten_ratings_that_it_does_not_tell(cold: Tasks) -> None:
    assert cold.item.shape == (60, QUERY)
    for (told, _), asked in zip(cold.support, cold.item, strict=True):
        assert len(told) == 30 - QUERY
        assert not set(told.tolist()) & set(asked.tolist())


def test_the_truth_gets_full_marks_and_its_opposite_the_lowest(cold: Tasks) -> None:
    assert np.all(absolute_error(cold, cold.rating) == 0)
    assert np.allclose(ndcg3(cold, cold.rating), 1.0)
    gain, discount = 2.0**cold.rating - 1.0, 1 / np.log2([2.0, 3.0, 4.0])
    worst = np.sort(gain, axis=1)[:, :3] @ discount / (-np.sort(-gain, axis=1)[:, :3] @ discount)
    assert np.allclose(ndcg3(cold, -cold.rating), worst)


def test_a_constant_ranks_as_chance_does(cold: Tasks) -> None:
    chance = np.random.default_rng(3)
    drawn = np.mean([ndcg3(cold, chance.random(cold.rating.shape)).mean() for _ in range(200)])
    assert ndcg3(cold, np.full(cold.rating.shape, 4.4)).mean() == pytest.approx(drawn, abs=0.05)


def test_whole_stars_are_stars(cold: Tasks) -> None:
    assert absolute_error(cold, np.full(cold.rating.shape, 9.0), whole_stars=True) == pytest.approx(
        (5 - cold.rating).mean(axis=1)
    )


def test_told_ratings_teach_the_taste_and_new_items_are_known_by_content(
    movies: Movies, cold: Tasks, head: RatingHead
) -> None:
    biases = Biases.fit(movies.parts[WARM], movies, (2.0, 3.0, 3.0, None))
    nothing, told = head.guess(movies, cold, shots=0), head.guess(movies, cold)
    assert absolute_error(cold, told).mean() < 0.5 * absolute_error(cold, biases.guess(cold)).mean()
    assert absolute_error(cold, told).mean() < 0.5 * absolute_error(cold, nothing).mean()
    new = cold.item >= ITEMS - 10
    assert new.any()
    assert np.abs(told - cold.rating)[new].mean() < 0.6


def test_nothing_told_is_the_start_exactly(movies: Movies, cold: Tasks, head: RatingHead) -> None:
    item, rating, present = padded([(items[:0], values[:0]) for items, values in cold.support])
    attributes = torch.from_numpy(movies.attributes[cold.user])
    asked = torch.from_numpy(cold.item).long()
    with torch.no_grad():
        phi, bias = head.item(asked)
        expected = bias + (phi * head.prior.without_support(attributes)[:, None]).sum(-1)
        assert torch.equal(head(attributes, (item, rating, present), asked), expected)


def test_item_knn_falls_back_on_biases_where_nothing_is_similar(movies: Movies, cold: Tasks) -> None:
    biases = Biases.fit(movies.parts[WARM], movies, (2.0, 3.0, 3.0, None))
    found = ItemKnn.fit(movies.parts[WARM], biases, (30, 10.0)).guess(cold)
    new = cold.item >= ITEMS - 10
    assert found[new] == pytest.approx(biases.guess(cold)[new])
    assert absolute_error(cold, found).mean() < absolute_error(cold, biases.guess(cold)).mean()


def test_biases_are_fitted_in_turn_as_one_regression_of_the_same_shrinkage_is(movies: Movies) -> None:
    """Who rates leniently makes no film better: the turns end at the joint ridge solution."""
    rated = movies.parts[WARM]
    mean = float(rated.rating.mean())
    bias, count = item_biases(rated, mean, ITEMS, 5.0, 3.0)
    design = np.zeros((len(rated), ITEMS + USERS))
    design[np.arange(len(rated)), rated.item] = design[np.arange(len(rated)), ITEMS + rated.user] = 1.0
    gram = design.T @ design + np.diag(np.repeat([5.0, 3.0], [ITEMS, USERS]))
    joint = np.linalg.solve(gram, design.T @ (rated.rating - mean))
    assert np.array_equal(count, np.bincount(rated.item, minlength=ITEMS))
    assert bias == pytest.approx(joint[:ITEMS], abs=2e-3)


def test_a_new_film_is_guessed_by_who_made_it(movies: Movies) -> None:
    """Whoever directs films 0 to 4 and 50 makes them five stars; more is expected of 50 than of films by others."""
    rated = movies.parts[WARM]
    by_the_best = np.isin(np.arange(ITEMS), [*range(5), 50])
    ratings = Ratings(rated.user, rated.item, np.where(by_the_best[rated.item], 5.0, rated.rating))
    people = np.where(by_the_best, 1, 0).astype(np.int32)[:, None]
    alone, after = (
        Biases.fit(ratings, some, (2.0, 3.0, 1.0, None)).item
        for some in (movies, replace(movies, people=people))
    )
    assert after[50] > alone[50] + 0.5
    assert np.abs(after[51:] - alone[51:]).max() < 0.5 * (after[50] - alone[50])


LINE = "{0}::Film::1999::{1}::1 Jan 1999::{2}::{3}::Somebody::{4}::A plot::a poster"


def test_the_item_table_says_age_rating_genres_and_people_of_two_films(tmp_path: Path) -> None:
    table = tmp_path / "items.dat"
    lines = [
        LINE.format(7, "R", "Drama, War", "Ann", "Ann, Bo, Cy"),
        LINE.format(9, "PG", "War", "Ann, Di", "Bo"),
        LINE.format(4, "R", "Drama", "N/A", "Cy, Eve"),
    ]
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = read_details(table, np.array([4, 5, 7, 9], np.int32))  # there is no film 5
    films = np.unique(found.content, axis=0)
    assert len(films) == 4
    assert found.content[1].sum() == 1  # no age rating, no genre
    people = [set(row[row > 0].tolist()) for row in found.people]
    assert [len(film) for film in people] == [1, 0, 3, 2]  # Di, Eve and Ann as an actress made one film
    assert len(people[2] & people[3]) == 2
    assert len(people[0] & people[2]) == 1
    assert not people[0] & people[3]


def test_a_table_of_another_shape_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "items.dat"
    with pytest.raises(UserError, match=r"items\.dat is missing"):
        read_details(table, np.array([1], np.int32))
    table.write_text("1::Toy Story (1995)::Animation\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"line 1 has 3 columns .* must have 11"):
        read_details(table, np.array([1], np.int32))
    table.write_text(LINE.format("tt0114709", "G", "Drama", "Ann", "Bo") + "\n", encoding="utf-8")
    with pytest.raises(UserError, match="the id 'tt0114709'"):
        read_details(table, np.array([1], np.int32))


def test_what_chooses_settings_is_told_neither_the_users_nor_the_films_that_it_asks_about(
    movies: Movies, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(melu, "VALIDATION_USERS", 20)
    dated = replace(movies, year=np.where(np.arange(ITEMS) < 40, 1990.0, 1997.0))
    rated = replace(dated, parts=dated.parts | {WARM: dated.parts["cold"]})
    judged = Judged.of(rated, 7)
    held = set(judged.tasks[0].user.tolist())
    assert len(held) == 20
    assert len(np.unique(judged.ratings[0].user)) == 40
    assert not held & set(judged.ratings[0].user.tolist())
    assert judged.ratings[1].item.max() < 40 <= judged.tasks[1].item.min()


def test_a_folder_without_the_ratings_is_refused(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match=r"ratings\.parquet is missing"):
        read(tmp_path)


def test_the_past_is_told_beside_the_support_and_only_to_those_who_have_one(movies: Movies) -> None:
    warm = movies.parts[WARM]
    old, items, stars = 3, np.array([55, 56], np.int32), np.array([4.0, 2.0], np.float32)
    asked = Tasks(
        np.array([old, 200], np.int32),
        [(items, stars)] * 2,
        np.zeros((2, QUERY), np.int32),
        np.ones((2, QUERY), np.float32),
    )
    told, untold = with_earlier(asked, warm, 7, np.random.default_rng(0)).support
    past = dict(zip(*(column.tolist() for column in warm.by_user()[old]), strict=True))
    assert np.array_equal(told[0][:2], items)
    assert len(set(told[0][2:].tolist())) == 7
    assert all(past[item] == rated for item, rated in zip(told[0][2:].tolist(), told[1][2:], strict=True))
    assert np.array_equal(untold[0], items)


def test_the_blend_takes_the_share_that_errs_least(cold: Tasks) -> None:
    above, below = cold.rating + 0.3, cold.rating - 0.1
    assert chosen_share(above, below, cold) == 0.75
    assert blended(above, below, 0.75) == pytest.approx(cold.rating, abs=1e-5)
    assert chosen_share(cold.rating, below, cold) == 0.0


def test_a_head_may_learn_from_users_of_few_ratings_alone() -> None:
    user = np.repeat(np.arange(3, dtype=np.int32), (2, 15, 40))
    ratings = Ratings(user, np.arange(57, dtype=np.int32), np.ones(57, np.float32))
    assert np.unique(ratings.of_users_with(13, 39).user).tolist() == [1]
    assert len(ratings.of_users_with(2, 40)) == 57


def test_a_film_follows_the_newest_ones_before_it_of_the_same_series() -> None:
    titles = ["Toy Story (1995)", "Toy Story 2 (1999)", "Rocky (1976)", "Rocky II (1979)", "Rocky V (1990)"]
    titles += ["Heat (1995)", "Star Wars: Episode V - The Empire Strikes Back (1980)"]
    titles += ["Star Wars: Episode I - The Phantom Menace (1999)"]
    year = np.array([1995, 1999, 1976, 1979, 1990, 1995, 1980, 1999.0])
    found = films_before(titles, year)
    assert [row[row >= 0].tolist() for row in found] == [[], [0], [], [2], [3, 2], [], [], [6]]
    assert stem("Mummy, The (1999)") == "mummy"


def test_a_new_film_is_guessed_by_the_films_before_it(movies: Movies, head: RatingHead) -> None:
    """The last ten items are new: where films that follow loved ones were loved, more is expected of these too."""
    rated = movies.parts[WARM]
    loved = (rated.item < 5) | ((rated.item >= 10) & (rated.item < 20))
    ratings = Ratings(rated.user, rated.item, np.where(loved, 5.0, rated.rating).astype(np.float32))
    series = movies.earlier.copy()
    series[50:, 0] = np.arange(10) % 5
    series[10:20, 0] = np.arange(10) % 5  # what there is to learn from
    follows = replace(movies, earlier=series)
    alone, after = (Biases.fit(ratings, some, (2.0, 3.0, 3.0, None)).item[50:] for some in (movies, follows))
    assert (after > alone + 0.5).all()
    following, before = copy.deepcopy(head), torch.from_numpy(series[50:, 0]).long()
    following.earlier = torch.from_numpy(series).long()
    with torch.no_grad():
        features, bias = head.item(torch.arange(50, 60))
        moved, higher = following.item(torch.arange(50, 60))
        torch.testing.assert_close(moved - features, head.likeness[0] * head.id[before])
        torch.testing.assert_close(higher - bias, head.likeness[1] * head.bias[before])
