"""A study without a browser: pairs, sides and order; answers and codes; what the server says to strangers."""

import http.client
import json
import random
import shutil
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
import torch

from nststab.errors import NststabError, SettingError
from nststab.study.answers import AnsweredTwice, Answers, check, codes_in, collect, count_people
from nststab.study.design import MEDIA, Study, make_sheets, make_trials, read_study
from nststab.study.make import make_study, with_flicker
from nststab.study.page import StudyServer, pack_study, sheet_trials, study_page
from nststab.video.clip import open_clip
from tests.study_samples import COLORS, FRAMES, HOSTILE, small_study, write_clip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    small_study(folder)
    return folder


@pytest.fixture
def study(place: Path, tmp_path: Path) -> tuple[Path, Study]:
    """A copy of the study without answers."""
    folder = tmp_path / "STUDY"
    folder.mkdir()
    (folder / MEDIA).symlink_to(place / "STUDY" / MEDIA)
    (folder / "study.json").write_bytes((place / "STUDY" / "study.json").read_bytes())
    return folder, read_study(folder)


def test_every_pair_stands_equally_often_and_equally_often_on_either_side() -> None:
    trials = make_trials(6, {1: "b", 4: "c"}, ["a", "b", "c"])
    assert len(trials) == 6 * 3 + 2 * 2
    sheets = make_sheets(trials, 5, seed=3)
    shown = Counter(entry for sheet in sheets for entry in sheet if trials[entry[0]].kind == "pair")
    assert len(shown) == 2 * 18
    assert len(set(shown.values())) == 1  # each pair, on each side
    for sheet in sheets:
        kinds = Counter(trials[trial].kind for trial, _ in sheet)
        assert 4 <= kinds["pair"] <= 5
        assert (kinds["same"], kinds["flicker"]) == (1, 1)
        assert len({trial for trial, _ in sheet}) == len(sheet)
    for one, other in zip(sheets[::2], sheets[1::2], strict=True):
        assert sorted(one) == sorted((trial, not swapped) for trial, swapped in other)
    assert make_sheets(trials, 5, seed=3) == sheets
    assert make_sheets(trials, 5, seed=4) != sheets
    assert len(make_sheets(trials, 100, seed=0)[0]) == 18 + 2 * 2  # catch pairs: no more than there are


def test_planted_flicker_is_seen_on_every_gray_and_stays_below_what_harms() -> None:
    grays = torch.arange(256).view(1, 1, 1, 256).expand(1, 3, 1, 256) / 255
    shown = torch.stack([with_flicker(grays, Fraction(number, 25)) for number in range(25)])
    bright, dark = shown.amax(0), shown.amin(0)
    assert len({one.numpy().tobytes() for one in shown}) == 2
    assert torch.allclose(255 * (bright - dark), torch.tensor(10.2))
    assert 0 <= dark.min() < bright.max() <= 1
    luminance = [torch.where(one <= 0.04045, one / 12.92, ((one + 0.055) / 1.055) ** 2.4) for one in (bright, dark)]
    assert 0.08 < (luminance[0] - luminance[1]).max() < 0.1  # WCAG 2.3.1: a flash is a tenth of white's luminance


def test_all_clips_of_a_scene_are_one_video_in_step(study: tuple[Path, Study]) -> None:
    folder, made = study
    for scene in made.scenes:
        frames = list(open_clip(folder / MEDIA / scene.media).frames())
        assert len(frames) == len(scene.times) == FRAMES
        places = {"input": 0, **{name: place for name, place in scene.places.items() if name}}
        for number, frame in enumerate(frames):
            for name, place in places.items():
                x, y, width, height = scene.rects[place]
                clip = frame.rgb[0, :, y : y + height, x : x + width]
                color = 255 * clip[:, 4 : height // 2 - 4].mean((1, 2))
                assert torch.allclose(color, torch.tensor(COLORS[name]).float(), atol=6)
                assert sum(int(clip[0, -8, int((bit + 0.5) * width / 6)] > 0.5) << bit for bit in range(6)) == number


def test_the_page_knows_neither_names_nor_files_nor_what_a_catch_is(study: tuple[Path, Study], place: Path) -> None:
    folder, made = study
    packed = pack_study(folder, folder.parent / "packed")
    for page in (study_page(made, packed=False), packed.read_text("utf-8")):
        for secret in (HOSTILE, "theirs", made.token, str(place), "swapped", '"kind"', "onerror=alert"):
            assert secret not in page
    assert sorted(path.name for path in packed.parent.rglob("*")) == sorted(
        ["index.html", "media", *(scene.media for scene in made.scenes)]
    )


def test_a_study_is_packed_into_the_folder_one_stands_in(
    study: tuple[Path, Study], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = tmp_path / "packed"
    for overwrite in (False, True):
        packed.mkdir(exist_ok=True)
        monkeypatch.chdir(packed)
        pack_study(study[0], ".", overwrite=overwrite)
        assert sorted(path.name for path in packed.iterdir()) == ["index.html", "media"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["STUDY", "packed"]


def test_a_page_of_somebody_else_is_not_taken_for_a_packed_study(study: tuple[Path, Study], tmp_path: Path) -> None:
    (tmp_path / "blog").mkdir()
    (tmp_path / "blog/index.html").write_text("mine")
    with pytest.raises(SettingError, match="is no packed study"):
        pack_study(study[0], tmp_path / "blog", overwrite=True)
    assert (tmp_path / "blog/index.html").read_text() == "mine"


def test_the_same_seed_makes_the_same_study_but_for_its_secrets(study: tuple[Path, Study], tmp_path: Path) -> None:
    _, made = study
    again = small_study(tmp_path / "again")
    assert (again.trials, again.sheets) == (made.trials, made.sheets)
    assert [(scene.media, scene.places) for scene in again.scenes] == [
        (scene.media, scene.places) for scene in made.scenes
    ]
    assert again.token != made.token
    assert again.id != made.id


def test_refuses_what_does_not_fit(place: Path, tmp_path: Path) -> None:
    clips = {"ours": place / "1", "theirs": place / "2"}
    short = write_clip(tmp_path / "short" / "one", "theirs", FRAMES - 1).parent
    write_clip(tmp_path / "short" / "two", "theirs")
    for wrong, given, message in (
        (SettingError, {"ours": place / "1"}, "expected at least two"),
        (SettingError, {"a\nb": place / "1", "b": place / "2"}, "letters that can be printed"),
        (NststabError, {"ours": place / "1", "theirs": short}, f"expected {FRAMES} frames"),
        (NststabError, {"ours": place / "1", "theirs": place / "2" / "one"}, "expected one clip of the sequence one"),
    ):
        with pytest.raises(wrong, match=message):
            make_study(place / "0", given, tmp_path / "made")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["short"]  # nothing half is left
    with pytest.raises(SettingError, match=r"\{style\} in each path"):
        make_study(place / "0", clips, tmp_path / "made", styles=[place / "style.png", "starry_night"])
    study = make_study(place / "0" / "one", {name: path / "one" for name, path in clips.items()}, tmp_path / "made")
    assert study.questions == ["flicker", "preference"]  # nobody can say what matches a style that is not shown
    with pytest.raises(SettingError, match="overwrite=True"):
        make_study(place / "0", clips, tmp_path / "made")
    answers = Answers(tmp_path / "made", study)
    answers.add(answers.begin(), 0, "as", 1000, 0)
    with pytest.raises(SettingError, match="holds answers of 1 people"):
        make_study(place / "0", clips, tmp_path / "made", overwrite=True)


def test_an_answer_is_resolved_by_the_side_it_was_shown_on(study: tuple[Path, Study]) -> None:
    folder, made = study
    answers = Answers(folder, made)
    person = answers.begin()
    sheet = made.sheets[answers.sheet_of(person) or 0]
    for position in range(len(sheet)):
        answers.add(person, position, "abs", 1500, 2)
    for one, (trial, swapped) in zip(answers.all(), sheet, strict=True):
        assert (one.trial, one.swapped, one.seconds, one.replays) == (trial, swapped, 1.5, 2)
        assert [one.chosen(question) for question in range(3)] == ([1, 0, 2] if swapped else [0, 1, 2])
        scene = made.scenes[made.trials[trial].scene]
        left, _ = made.rects(trial, swapped)
        if made.trials[trial].kind == "pair":  # what "a" chose is what was on the left
            assert scene.places[[made.trials[trial].first, made.trials[trial].second][one.chosen(0)]] == left


def test_an_answer_stays_and_wrong_ones_are_refused(study: tuple[Path, Study]) -> None:
    folder, made = study
    answers = Answers(folder, made)
    person = answers.begin()
    answers.add(person, 0, "abs", 1000, 0)
    with pytest.raises(AnsweredTwice):
        answers.add(person, 0, "bbs", 1000, 0)
    for wrong in (
        (person, 99, "abs", 1, 0),
        (person, -1, "abs", 1, 0),
        (person, 1, "ab", 1, 0),
        (person, 1, "abx", 1, 0),
        (person, 1, "abs", -1, 0),
        (person, 1, "abs", 1, 10**4000),
        ("0" * 16, 1, "abs", 1, 0),
    ):
        with pytest.raises(NststabError):
            answers.add(*wrong)
    assert [(one.trial, one.choices) for one in Answers(folder, made).all()] == [(made.sheets[0][0][0], "abs")]
    assert [answers.sheet_of(answers.begin()) for _ in range(3)] == [1, 2, 3]  # that which the fewest have


def test_nothing_is_kept_but_what_people_are_told(study: tuple[Path, Study]) -> None:
    folder, made = study
    answers = Answers(folder, made)
    answers.add(answers.begin(), 0, "abs", 1500, 2)
    with closing(sqlite3.connect(folder / "answers.sqlite")) as database:
        query = "SELECT tables.name, columns.name FROM sqlite_master tables, pragma_table_info(tables.name) columns"
        kept = set(database.execute(f"{query} WHERE tables.type = 'table'"))
    answer = ("person", "trial", "swapped", "choices", "seconds", "replays")
    assert kept == {("people", "person"), ("people", "sheet"), *(("answers", column) for column in answer)}


def code_of(study: Study, person: str, sheet: int | str, answers: list[str]) -> str:
    text = f"nststab1.{study.id}.{person}.{sheet}.{'~'.join(answers)}"
    return f"{text}.{check(text)}"


def test_codes_are_found_checked_and_taken_once(study: tuple[Path, Study], tmp_path: Path) -> None:
    folder, made = study
    person = "0123456789abcdef"
    half = code_of(made, person, 3, ["abs_1500_0", "", "ssb_900_2", ""])
    table = tmp_path / "platform.csv"
    table.write_text(f'worker,code\n7,"{half}"\n8, see {half}.\n')
    assert codes_in(table.read_text()) == [half]
    assert collect(folder, [table]) == (1, 2, [])
    assert collect(folder, [half]) == (1, 0, [])
    whole = code_of(made, person, 3, ["abs_1500_0", "aaa_1_0", "ssb_900_2", ""])
    assert collect(folder, [whole]) == (1, 1, [])
    kept = Answers(folder, made).all()
    assert [(one.trial, one.swapped) for one in kept] == [made.sheets[3][place] for place in (0, 2, 1)]
    assert [one.seconds for one in kept] == [1.5, 0.9, 0.001]
    other = code_of(made, person, 3, ["bbb_1500_0"])
    damaged = [half[:-9], half.replace("abs", "aas"), half.replace(made.id, "0" * 12), other]
    found = collect(folder, damaged)
    assert found[:2] == (4, 0)
    said = ["damaged", "damaged", "damaged", "has an answer"]
    assert [word in line for word, line in zip(said, found.refused, strict=True)] == [True] * 4
    foreign = small_foreign(made)
    assert "another study" in collect(folder, [foreign]).refused[0]
    with pytest.raises(NststabError, match="expected a code"):
        collect(folder, ["nothing"])
    assert len(Answers(folder, made).all()) == 3


ENDLESS = "9" * 5000


@pytest.mark.parametrize(
    ("sheet", "answer"), [(ENDLESS, "abs_1_0"), ("0", f"abs_{ENDLESS}_0"), ("0", f"abs_1_{ENDLESS}")]
)
def test_a_code_of_endless_numbers_leaves_the_others_alone(study: tuple[Path, Study], sheet: str, answer: str) -> None:
    folder, made = study
    endless = code_of(made, "0" * 16, sheet, [answer])
    whole = code_of(made, "1" * 16, 0, ["abs_1500_0"])
    found = collect(folder, [endless, whole])
    assert found[:2] == (2, 1)
    assert "damaged" in found.refused[0]


def small_foreign(study: Study) -> str:
    text = f"nststab1.{'0' * len(study.id)}.0123456789abcdef.0.abs_1_0"
    return f"{text}.{check(text)}"


@pytest.fixture
def server(study: tuple[Path, Study]) -> Iterator[StudyServer]:
    with StudyServer(study[0], port=0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(server: StudyServer, method: str, path: str, body: object = None) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    connection.request(method, path, data)
    response = connection.getresponse()
    found = response.status, dict(response.getheaders()), response.read()
    connection.close()
    return found


def test_a_stranger_is_shown_nothing(server: StudyServer) -> None:
    token, media = server.study.token, server.study.scenes[0].media
    assert urlsplit(server.address)[:3] == ("http", f"127.0.0.1:{server.server_port}", f"/{token}/")
    for wrong in (
        "/",
        "/index.html",
        f"/{token[:-1]}/",
        f"/{token}x/",
        f"/{token}",
        f"/%00{token}/",
    ):
        for rest in ("", f"media/{media}", "people"):
            status, _, body = ask(server, "GET", wrong + rest)
            assert status == 404, wrong + rest
            assert json.loads(body) == {"error": "there is nothing here"}
    for path in ("people", "answers"):
        assert ask(server, "POST", f"/wrong/{path}", {})[0] == 404
    for path in ("study.json", "media/../study.json", "answers.sqlite", "media/..%2fstudy.json", "media//etc/passwd"):
        assert ask(server, "GET", f"/{token}/{path}")[0] == 404
    assert server.answers.all() == []


def test_the_page_is_served_under_a_policy(server: StudyServer) -> None:
    status, headers, page = ask(server, "GET", f"/{server.study.token}/")
    assert status == 200
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Server"].strip() == "nststab"  # not which Python
    for rule in (b"default-src 'none'", b"connect-src 'self'", b"media-src blob:", b"script-src 'sha256-"):
        assert rule in page
    assert ask(server, "GET", f"/{server.study.token}/media/{server.study.scenes[1].media}")[2][4:8] == b"ftyp"


def test_the_server_keeps_answers_and_refuses_what_is_none(server: StudyServer) -> None:
    base = f"/{server.study.token}/"
    status, _, body = ask(server, "POST", f"{base}people", {})
    person = json.loads(body)["person"]
    assert status == 201
    given = {"person": person, "place": 1, "choices": "abs", "milliseconds": 2500, "replays": 1}
    for wrong in (
        {**given, "place": "1"},
        {**given, "place": True},
        {**given, "milliseconds": 10**400},
        {"person": person},
        [given],
        b"{",
        b" " * 20_000,
    ):
        assert ask(server, "POST", f"{base}answers", wrong)[0] == 400
    assert ask(server, "POST", f"{base}answers", given)[0] == 201
    assert ask(server, "POST", f"{base}answers", {**given, "choices": "bbb"})[0] == 409
    _, _, body = ask(server, "GET", f"{base}people/{person}")
    sheet = server.study.sheets[server.answers.sheet_of(person) or 0]
    assert json.loads(body) == {"trials": [[*row] for row in sheet_trials(server.study, sheet)], "answered": [1]}
    assert ask(server, "GET", f"{base}people/{'0' * 16}")[0] == 404
    assert [one[3:] for one in server.answers.all()] == [("abs", 2.5, 1)]


def test_many_people_at_once_lose_nothing(server: StudyServer) -> None:
    base = f"/{server.study.token}/"
    places = len(server.study.sheets[0])

    def judge(seed: int) -> None:
        draw = random.Random(seed)
        person = json.loads(ask(server, "POST", f"{base}people", {})[2])["person"]
        for place in draw.sample(range(places), places):
            given = {"person": person, "place": place, "choices": "sss", "milliseconds": 1, "replays": 0}
            assert ask(server, "POST", f"{base}answers", given)[0] == 201

    threads = [threading.Thread(target=judge, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.answers.all()) == 6 * places


def test_a_server_for_all_tells_an_address_that_browsers_reach(study: tuple[Path, Study]) -> None:
    with StudyServer(study[0], "0.0.0.0", 0) as server:
        assert "//0.0.0.0:" not in server.address
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        with urlopen(server.address, timeout=10) as answer:
            assert answer.status == 200
        server.shutdown()


def test_a_port_that_is_taken_is_named(server: StudyServer) -> None:
    with pytest.raises(SettingError, match=r"port: 127\.0\.0\.1:"):
        StudyServer(server.folder, port=server.server_port)


def test_what_is_no_study_is_named(tmp_path: Path) -> None:
    with pytest.raises(NststabError, match="holds no study"):
        read_study(tmp_path)
    (tmp_path / "study.json").write_text("{")
    with pytest.raises(NststabError, match="damaged"):
        read_study(tmp_path)
    (tmp_path / "study.json").write_text('{"schema": 99}')
    with pytest.raises(NststabError, match="another version"):
        read_study(tmp_path)


@pytest.mark.parametrize("name", ["a#b", "a?b", "50%20"])
def test_people_are_counted_in_a_folder_of_any_name(study: tuple[Path, Study], tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    shutil.copytree(study[0], folder)
    answers = Answers(folder, study[1])
    person = answers.begin()
    assert count_people(folder) == 0
    answers.add(person, 0, "abs", 1000, 0)
    assert count_people(folder) == 1


def test_a_code_of_another_sheet_of_a_known_person_leaves_nothing(study: tuple[Path, Study]) -> None:
    folder, made = study
    answers = Answers(folder, made)
    person = answers.begin()
    assert answers.sheet_of(person) == 0
    with pytest.raises(NststabError, match="another sheet of this person"):
        answers.take(code_of(made, person, 1, []))
