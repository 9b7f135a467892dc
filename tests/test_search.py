from __future__ import annotations

import itertools

import pytest
import torch
from helpers import KINDS, assert_same, rescore, with_biases
from torch import Tensor

from captioner.models.decoder import Decoder
from captioner.search import search
from captioner.vocabulary import END, PAD, START, UNKNOWN

N, L, D = 8, 9, 6  # L locations of size D, as in conftest.SIZES
STRATEGIES = [
    {"strategy": "greedy"},
    {"strategy": "beam", "width": 4},
    {"strategy": "beam", "width": 3, "length_penalty": 1.0, "block_ngrams": 2},
    {"strategy": "sample", "width": 6},
]


@pytest.fixture
def annotations() -> Tensor:
    return torch.randn(N, L, D)


@pytest.mark.parametrize("seed", range(10))
def test_a_beam_of_one_is_greedy_search(make_decoder, annotations: Tensor, seed: int):
    decoder = make_decoder(seed)
    greedy = search(decoder, annotations, "greedy", trace=True)
    assert_same(search(decoder, annotations, "beam", width=1, trace=True), greedy)


def test_greedy_takes_the_likeliest_word_each_time(make_decoder, annotations: Tensor):
    decoder = make_decoder()
    for annotation, (best,) in zip(
        annotations, search(decoder, annotations, "greedy"), strict=True
    ):
        seen = rescore(decoder, annotation, best.ids)
        allowed = seen.log_probs.clone()
        allowed[:, [PAD, START, UNKNOWN]] = float("-inf")
        allowed[0, END] = float("-inf")
        assert best.ids == allowed.argmax(-1).tolist()


@pytest.mark.parametrize("strategy", ["beam", "sample"])
def test_the_first_step_is_taken_once_for_all_captions_of_an_image(
    make_decoder, annotations: Tensor, strategy: str, monkeypatch
):
    decoder, shapes = make_decoder(), []
    step = decoder.step
    monkeypatch.setattr(
        decoder, "step", lambda word, *seen: shapes.append(tuple(word.shape)) or step(word, *seen)
    )
    search(decoder, annotations, strategy, width=4, min_length=2, max_length=2)
    assert shapes == [(N, 1), (N, 4)]


@pytest.mark.parametrize("length_penalty", [0.0, 0.7, 2.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_wide_beam_finds_all_captions_in_the_right_order(make_decoder, seed, length_penalty):
    # Two words, at most three in a caption: 2 + 4 end by themselves, 8 are cut off.
    decoder = make_decoder(seed, vocabulary=6)
    annotations = torch.randn(2, L, D)
    options = {"max_length": 3, "length_penalty": length_penalty}
    found = search(decoder, annotations, "beam", width=20, **options)
    for annotation, hypotheses in zip(annotations, found, strict=True):
        expected = []
        for ids in itertools.chain(*(itertools.product((4, 5), repeat=t) for t in (1, 2, 3))):
            seen = rescore(decoder, annotation, list(ids))
            log_prob = float(sum(seen.log_probs[t, word] for t, word in enumerate(ids)))
            ended = len(ids) < 3
            log_prob += seen.end if ended else 0.0
            expected.append((log_prob / (len(ids) + ended) ** length_penalty, list(ids), ended))
        expected.sort(reverse=True)
        assert [h.ids for h in hypotheses] == [ids for _, ids, _ in expected]
        assert [h.ended for h in hypotheses] == [ended for *_, ended in expected]
        scores = [score for score, *_ in expected]
        assert [h.score for h in hypotheses] == pytest.approx(scores, abs=1e-5)


def textbook_beam(
    decoder: Decoder, annotation: Tensor, width: int, max_length: int, penalty: float
) -> list[tuple[float, list[int]]]:
    """Beam search over one image by the definition: (score, ids), `<end>` kept, best first."""
    beam = [(0.0, [])]  # log p, ids
    for _ in range(max_length):
        candidates = [(total, ids) for total, ids in beam if ids and ids[-1] == END]
        for total, ids in beam:
            if ids and ids[-1] == END:
                continue
            log_probs = rescore(decoder, annotation, [*ids, END]).log_probs[-1]
            words = range(END if ids else UNKNOWN + 1, len(log_probs))
            candidates += [(total + float(log_probs[w]), [*ids, w]) for w in words if w != UNKNOWN]
        beam = sorted(candidates, key=lambda c: c[0] / len(c[1]) ** penalty)[::-1][:width]
    return [(total / len(ids) ** penalty, ids) for total, ids in beam]


@pytest.mark.parametrize("length_penalty", [0.0, 0.7, 2.0])
@pytest.mark.parametrize("seed", [0, 1, 5])
def test_a_beam_is_that_of_the_textbook(
    make_decoder, annotations, seed: int, length_penalty: float
):
    decoder = make_decoder(seed)
    found = search(decoder, annotations, width=3, max_length=6, length_penalty=length_penalty)
    for annotation, hypotheses in zip(annotations, found, strict=True):
        expected = textbook_beam(decoder, annotation, 3, 6, length_penalty)
        ours = [[*h.ids, END] if h.ended else h.ids for h in hypotheses]
        assert ours == [ids for _, ids in expected]
        assert [h.score for h in hypotheses] == pytest.approx([s for s, _ in expected], abs=1e-5)


def test_beams_find_likelier_captions_than_greedy_search_on_average(make_decoder, annotations):
    # Not a law for each image: a beam can drop the greedy caption and end up with a worse one.
    gains = []
    for seed in range(50):
        decoder = make_decoder(seed)
        beam, greedy = (
            search(decoder, annotations, kind, max_length=8) for kind in ("beam", "greedy")
        )
        gains += [b[0].log_prob - g[0].log_prob for b, g in zip(beam, greedy, strict=True)]
    gains = torch.tensor(gains)
    assert gains.mean() > 0.1
    assert (gains >= -1e-5).float().mean() > 0.95


@pytest.mark.parametrize("options", STRATEGIES[:3])
def test_a_batch_gives_what_its_images_give_alone(make_decoder, annotations, options: dict):
    decoder = make_decoder(1)
    options = {**options, "max_length": 12, "trace": True}
    together = search(decoder, annotations, **options)
    alone = [search(decoder, annotation[None], **options)[0] for annotation in annotations]
    assert len({len(row[0].ids) for row in alone}) > 1  # they do not all end at once
    assert_same(together, alone)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("options", STRATEGIES)
def test_what_is_reported_is_what_reading_the_caption_gives(
    make_decoder, annotations: Tensor, options: dict, seed: int
):
    decoder = make_decoder(seed, beta="vector")
    found = search(decoder, annotations, max_length=6, trace=True, seed=seed, **options)
    for annotation, hypotheses in zip(annotations, found, strict=True):
        assert len(hypotheses) == (1 if options["strategy"] == "greedy" else options["width"])
        for hypothesis in hypotheses:
            seen = rescore(decoder, annotation, hypothesis.ids)
            words = seen.log_probs.gather(-1, torch.tensor(hypothesis.ids)[:, None])[:, 0]
            torch.testing.assert_close(hypothesis.word_log_probs, words, rtol=0, atol=1e-5)
            total = float(words.sum()) + (seen.end if hypothesis.ended else 0.0)
            assert hypothesis.log_prob == pytest.approx(total, abs=1e-5)
            for ours, expected in zip(hypothesis.trace, seen.trace, strict=True):
                torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_decoder_is_searched_alike(make_decoder, annotations: Tensor, kind: str):
    """Its traces go with the beams, and images that are done leave the others as they are."""
    decoder, lengths = make_decoder(1, tied_output=True, **KINDS[kind]), set()
    with_biases(decoder, {END: 6.0})
    found = search(decoder, annotations, width=3, max_length=12, trace=True)
    for annotation, hypotheses in zip(annotations, found, strict=True):
        for hypothesis in hypotheses:
            lengths.add(len(hypothesis.ids))
            seen = rescore(decoder, annotation, hypothesis.ids)
            total = float(hypothesis.word_log_probs.sum()) + seen.end * hypothesis.ended
            assert hypothesis.log_prob == pytest.approx(total, abs=1e-5)
            for ours, expected in zip(hypothesis.trace, seen.trace, strict=True):
                torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)
    assert len(lengths) > 1


@pytest.mark.parametrize("options", STRATEGIES)
def test_hypotheses_come_best_first_and_score_as_stated(make_decoder, annotations, options: dict):
    penalty = options.get("length_penalty", 0.0)
    for hypotheses in search(make_decoder(), annotations, **options):
        scores = [h.score for h in hypotheses]
        assert scores == sorted(scores, reverse=True)
        for h in hypotheses:
            stated = h.log_prob / (len(h.ids) + h.ended) ** penalty
            assert h.score == pytest.approx(stated, abs=1e-5)


def test_beams_of_an_image_differ(make_decoder, annotations: Tensor):
    for hypotheses in search(make_decoder(), annotations, "beam", width=8):
        assert len({(tuple(h.ids), h.ended) for h in hypotheses}) == 8


@pytest.mark.parametrize("options", STRATEGIES)
def test_without_any_end_captions_are_cut_at_the_limit(make_decoder, annotations, options: dict):
    decoder = with_biases(make_decoder(tied_output=True), {END: -1e9})
    for hypotheses in search(decoder, annotations, max_length=7, **{**options, "block_ngrams": 0}):
        assert [len(h.ids) for h in hypotheses] == [7] * len(hypotheses)
        assert not any(h.ended for h in hypotheses)
        assert all(h.log_prob > -1e3 for h in hypotheses)


@pytest.mark.parametrize("options", STRATEGIES)
def test_special_words_are_never_written_however_likely(make_decoder, annotations, options: dict):
    decoder = with_biases(make_decoder(tied_output=True), {PAD: 20, START: 20, UNKNOWN: 20})
    for hypotheses in search(decoder, annotations, **options):
        assert hypotheses
        assert all(h.ids and min(h.ids) > UNKNOWN for h in hypotheses)


@pytest.mark.parametrize("options", STRATEGIES)
@pytest.mark.parametrize("shortest", [0, 1, 4, 6])
def test_lengths_stay_between_the_limits(make_decoder, annotations, options: dict, shortest: int):
    decoder = with_biases(make_decoder(tied_output=True), {END: 6.0})
    found = search(decoder, annotations, min_length=shortest, max_length=6, **options)
    lengths = {len(h.ids) for hypotheses in found for h in hypotheses}
    assert min(lengths) == shortest and max(lengths) <= 6


def test_an_empty_caption_is_possible_where_it_is_allowed(make_decoder, annotations: Tensor):
    decoder = with_biases(make_decoder(tied_output=True), {END: 50.0})
    for (best,) in search(decoder, annotations, "greedy", min_length=0, trace=True):
        assert best.ids == [] and best.ended
        assert best.log_prob == pytest.approx(0, abs=1e-3)
        assert best.trace.alpha.shape == (0, L) and best.word_log_probs.shape == (0,)


@pytest.mark.parametrize("options", STRATEGIES)
def test_a_single_word_is_a_caption(make_decoder, annotations: Tensor, options: dict):
    for hypotheses in search(make_decoder(), annotations, max_length=1, **options):
        assert [len(h.ids) for h in hypotheses] == [1] * len(hypotheses)
        assert not any(h.ended for h in hypotheses)


@pytest.mark.parametrize("strategy", ["beam", "sample"])
def test_more_beams_than_words_are_no_problem(make_decoder, annotations: Tensor, strategy: str):
    decoder = make_decoder(vocabulary=6)
    found = search(decoder, annotations, strategy, width=50, max_length=2)
    for hypotheses in found:  # a, b, and four of two words: a and b end, the others are cut off
        captions = {tuple(h.ids) for h in hypotheses}
        assert captions <= {(4,), (5,), (4, 4), (4, 5), (5, 4), (5, 5)}
        assert len(hypotheses) == (6 if strategy == "beam" else 50)
        assert all(h.log_prob > float("-inf") for h in hypotheses)


def ngrams(ids: list[int], size: int) -> list[tuple[int, ...]]:
    return [tuple(ids[i : i + size]) for i in range(len(ids) - size + 1)]


@pytest.mark.parametrize("strategy", ["greedy", "beam", "sample"])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_no_ngram_comes_twice(make_decoder, annotations: Tensor, size: int, strategy: str):
    decoder = with_biases(make_decoder(4, tied_output=True, vocabulary=8), {END: -20.0})
    found = search(decoder, annotations, strategy, max_length=20, block_ngrams=size)
    repeated = search(decoder, annotations, strategy, max_length=20)
    for h in itertools.chain(*found):
        assert len(set(ngrams(h.ids, size))) == len(ngrams(h.ids, size))
    assert any(len(set(ngrams(h.ids, size))) < 21 - size for h in itertools.chain(*repeated))


@pytest.mark.parametrize("options", STRATEGIES)
def test_a_caption_ends_where_every_word_is_forbidden(make_decoder, annotations, options: dict):
    decoder = make_decoder(vocabulary=6)
    options = {**options, "block_ngrams": 1, "min_length": 9, "max_length": 9}
    for hypotheses in search(decoder, annotations, **options):
        assert all(sorted(h.ids) == [4, 5] and h.ended for h in hypotheses)
        assert all(h.log_prob > float("-inf") for h in hypotheses)


def test_no_trace_is_kept_unasked_and_asking_changes_nothing(make_decoder, annotations: Tensor):
    decoder = make_decoder()
    plain = search(decoder, annotations)
    traced = search(decoder, annotations, trace=True)
    assert all(h.trace is None for h in itertools.chain(*plain))
    assert [[h.ids for h in row] for row in plain] == [[h.ids for h in row] for row in traced]
