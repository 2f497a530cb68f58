"""Trees of normal and anomalous images in the words of the field, and the maps and splits that come with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from fcdd_sweep.config.errors import DataError
from fcdd_sweep.config.schema import Images
from fcdd_sweep.data.corpus import split_for
from fcdd_sweep.data.scanning import check_dataset, dataset_facts, scan_dataset
from tests.data.datasets.test_folder import folder, load, sizes
from tests.trees import write_class_first, write_image, write_images, write_mask, write_mvtec, write_one_vs_rest

IMAGES = Images(load_size=16, size=16)

SPLIT = {
    "MVTec's": ["part/train/good", "part/test/good", "part/test/crack"],
    "MVTec's without a class": ["train/good", "test/good", "test/crack"],
    "a defect beside bad": ["part/train/good", "part/test/good", "part/test/bad"],
    "BTAD's": ["part/train/ok", "part/test/ok", "part/test/ko"],
    "capitals": ["part/Train/OK", "part/Test/OK", "part/Test/NG"],
    "split first": ["train/part/ok", "test/part/ok", "test/part/NG"],
    "nominal and abnormal": ["train/nominal", "test/nominal", "test/abnormal"],
    "words around them": ["part/train/good parts", "part/test/OK-images", "part/test/1_bad"],
    "another word in each half": ["train/normal", "test/ok", "test/defect"],
}


@pytest.mark.parametrize("name", SPLIT)
def test_words_of_the_field_are_read_with_the_split_of_their_folders(tmp_path: Path, name: str) -> None:
    root = tmp_path / "part"
    train, nominal, anomalous = SPLIT[name]
    for folder_name, count in ((train, 5), (nominal, 2), (anomalous, 3)):
        write_images(root / folder_name, count)
    corpus = load(folder(root))
    assert (corpus.protocol, corpus.classes) == ("defects", ("part",))
    assert sizes(corpus, "part") == (5, 0, 2, 3)
    assert set(split_for(corpus, "part").test_defect) == {"", "crack" if "crack" in anomalous else "anomalous"}
    facts = dataset_facts(folder(root))
    assert facts.classes == ("part",) and not facts.maps and not facts.trains_with_anomalies


def test_mvtec_is_read_as_its_own_data_set_reads_it(tmp_path: Path) -> None:
    root = write_mvtec(tmp_path / "data", ("bottle", "carpet"))
    ours = load(folder(root))
    theirs = load(folder(root, name="mvtec", classes=["bottle", "carpet"]))
    assert ours.classes == theirs.classes == ("bottle", "carpet")
    assert dataset_facts(folder(root)).maps
    for name in ours.classes:
        assert ours.fingerprints[name] == theirs.fingerprints[name]
    assert scan_dataset(folder(root), IMAGES).layout == "CLASS/{train,test}/{good,crack,hole}/IMAGES, with maps"


UNSPLIT = {
    "good and bad": ["good", "bad"],
    "OK and NG": ["OK", "NG"],
    "a class above": ["data/good", "data/bad"],
    "VisA's": ["data/Data/Images/Normal", "data/Data/Images/Anomaly"],
    "parts": ["OK_parts", "NG_parts"],
    "parts in two words": ["data/Good Parts", "data/Bad Parts"],
    "numbers": ["0_good", "1_bad"],
    "words at both ends": ["Photos_OK_3", "image-data-NG-2"],
}


@pytest.mark.parametrize("name", UNSPLIT)
def test_without_a_split_all_anomalous_and_some_nominal_images_are_test_images_and_no_new_image_moves_one(
    tmp_path: Path, name: str
) -> None:
    root = tmp_path / "data"
    nominal, anomalous = (root / each for each in UNSPLIT[name])
    write_images(nominal, 24)
    write_images(anomalous, 5)
    corpus = load(folder(root))
    train, _, test, defects = sizes(corpus, "data")
    assert train + test == 24 and 4 <= test <= 12 and defects == 5
    assert any("Fixed split by file name" in note for note in corpus.notes)
    before = dict(zip(corpus.path, corpus.is_test, strict=True))
    write_image(nominal / "zzz.png")
    write_image(anomalous / "aaa.png")
    after = load(folder(root))
    assert {p: t for p, t in zip(after.path, after.is_test, strict=True) if p in before} == before


@pytest.mark.parametrize("names", [("good_year", "bad_year"), ("label_1", "label_2"), ("images", "parts")])
def test_words_that_say_something_keep_folders_classes(tmp_path: Path, names: tuple[str, str]) -> None:
    root = write_one_vs_rest(tmp_path / "data", names, split=False)
    assert load(folder(root)).protocol == "one_vs_rest"


def test_a_seed_draws_another_split_and_another_fingerprint(tmp_path: Path) -> None:
    write_images(tmp_path / "data" / "good", 24)
    write_images(tmp_path / "data" / "bad", 2)
    first, again = load(folder(tmp_path / "data")), load(folder(tmp_path / "data", options={"split_seed": 0}))
    other = load(folder(tmp_path / "data", options={"split_seed": 1}))
    assert first.is_test.tolist() == again.is_test.tolist() != other.is_test.tolist()
    assert first.fingerprints == again.fingerprints != other.fingerprints


def test_images_of_a_group_stay_together(tmp_path: Path) -> None:
    for part in range(12):
        for view in range(3):
            write_image(tmp_path / "data" / "good" / f"p{part:02}_v{view}.png", seed=part * 3 + view)
        write_image(tmp_path / "data" / "bad" / f"p{part:02}_v9.png", seed=100 + part)
    corpus = load(folder(tmp_path / "data", options={"group": r"^(p\d+)_"}))
    halves: dict[str, set[bool]] = {}
    for path, is_test in zip(corpus.path, corpus.is_test, strict=True):
        halves.setdefault(Path(path).name[:3], set()).add(bool(is_test))
    assert len(halves) == 12 and all(len(each) == 1 for each in halves.values())
    assert {True, False} == set.union(*halves.values())
    assert dataset_facts(folder(tmp_path / "data", options={"group": r"^(p\d+)_"})).trains_with_anomalies


@pytest.mark.parametrize(("pattern", "what"), [("(p", "no regular expression"), ("p+", "has no group")])
def test_a_pattern_that_names_no_group_is_refused(tmp_path: Path, pattern: str, what: str) -> None:
    write_class_first(tmp_path / "data")
    (problem,) = check_dataset(folder(tmp_path / "data", options={"group": pattern}), IMAGES)
    assert problem.where == "dataset.options.group" and what in problem.what


def test_a_group_of_a_tree_with_a_split_is_reported_to_change_nothing(tmp_path: Path) -> None:
    corpus = load(folder(write_class_first(tmp_path / "data"), options={"group": "(.)"}))
    assert "dataset.options.group changes nothing: the data set is split already." in corpus.notes


def test_one_folder_of_images_holds_nominal_ones(tmp_path: Path) -> None:
    write_images(tmp_path / "coins", 24)
    corpus = load(folder(tmp_path / "coins"))
    assert (corpus.protocol, corpus.classes) == ("defects", ("coins",))
    train, anomalous, test, defects = sizes(corpus, "coins")
    assert train + test == 24 and 4 <= test <= 12 and anomalous == defects == 0
    assert "Class 'coins' has no test anomalies." in corpus.notes


@pytest.mark.parametrize("options", [{}, {"layout": "flat"}])
def test_maps_in_one_folder_of_images_are_not_trained_on_until_they_are_moved(
    tmp_path: Path, options: dict[str, str]
) -> None:
    root = tmp_path / "coins"
    images = write_images(root, 12)
    maps = [write_mask(root / "003_mask.png"), write_mask(root / "005_gt_1.png")]
    (problem,) = check_dataset(folder(root, options=options), IMAGES)
    assert problem.where == str(root) and problem.what == (
        "2 files look like ground-truth maps of the images beside them: 003_mask.png, 005_gt_1.png"
    )
    assert problem.next_step.startswith("Move images with maps, and their maps, to 'bad', and the other images to")
    for name in ("good", "bad"):
        (root / name).mkdir()
    for path in (*images, *maps):
        path.rename(root / ("bad" if path in (images[3], images[5], *maps) else "good") / path.name)
    corpus = load(folder(root))
    assert len(corpus.path) == 12 and (corpus.mask_index >= 0).sum() == 2


@pytest.mark.parametrize("name", ["mask_003", "gt_003", "003_annotated"])
def test_maps_and_annotated_copies_in_one_folder_of_images_are_not_read_in_silence(tmp_path: Path, name: str) -> None:
    write_images(tmp_path / "coins", 12)
    write_mask(tmp_path / "coins" / f"{name}.png")
    (problem,) = check_dataset(folder(tmp_path / "coins"), IMAGES)
    assert problem.where == str(tmp_path / "coins") and f"beside it: {name}.png" in problem.what


@pytest.mark.parametrize("tree", [("good", "bad"), ("train/normal", "test/anomalous"), ("cat", "dog")])
def test_annotated_copies_are_refused_until_they_are_elsewhere(tmp_path: Path, tree: tuple[str, str]) -> None:
    root = tmp_path / "data"
    for number, each in enumerate(tree):
        write_images(root / each, 6, seed=number)
    copies = [write_image(root / tree[1] / f"00{n}_annotated.png") for n in (1, 2)]
    (problem,) = check_dataset(folder(root), IMAGES)
    assert str(problem) == (
        f"{root / tree[1]}: 2 files look like annotated copies of images beside them: 001_annotated.png, "
        "002_annotated.png. Move them elsewhere, or rename them if they are no copy."
    )
    for path in copies:
        path.unlink()
    assert check_dataset(folder(root), IMAGES) == []


def test_defects_of_a_tree_without_split_are_read_where_maps_name_them(tmp_path: Path) -> None:
    write_images(tmp_path / "part" / "good", 12)
    (image,) = write_images(tmp_path / "part" / "crack", 1)
    (problem,) = check_dataset(folder(tmp_path / "part"), IMAGES)
    assert "layout: mvtec" in str(problem) and "layout: classes" in str(problem)  # as far as anyone can say, either
    write_mask(tmp_path / "part" / "ground_truth" / "crack" / f"{image.stem}_mask.png")
    corpus = load(folder(tmp_path / "part"))
    assert corpus.protocol == "defects" and corpus.has_maps and "crack" in corpus.defect


@pytest.mark.parametrize(
    ("folders", "layout"),
    [
        (("screw/good", "nut/good"), "CLASS/good/IMAGES"),
        (("screw/OK", "nut/OK"), "CLASS/OK/IMAGES"),
        (("train/screw/ok", "train/nut/ok"), "train/CLASS/ok/IMAGES"),
    ],
)
def test_classes_of_normal_images_alone_are_not_each_other_s_anomalies(
    tmp_path: Path, folders: tuple[str, str], layout: str
) -> None:
    for number, each in enumerate(folders):
        write_images(tmp_path / "data" / each, 12, seed=number)
    corpus = load(folder(tmp_path / "data"))
    assert (corpus.protocol, corpus.classes) == ("defects", ("nut", "screw"))
    assert not corpus.is_anomalous.any() and scan_dataset(folder(tmp_path / "data"), IMAGES).layout == layout
    assert load(folder(tmp_path / "data", options={"layout": "classes"})).protocol == "one_vs_rest"


@pytest.mark.parametrize(
    ("beside", "what", "step"),
    [
        (
            "screw",
            "its folder good looks like normal images, but all other images of the class would be read as nominal",
            "In SCREW, move the images in no folder to 'good' if they",
        ),
    ],
)
def test_images_of_classes_beside_normal_ones_are_refused_until_they_are_sorted(
    tmp_path: Path, beside: str, what: str, step: str
) -> None:
    root = tmp_path / "data"
    write_images(root / "screw" / "good", 6)
    write_images(root / beside, 2, seed=1)
    (problem,) = check_dataset(folder(root), IMAGES)
    assert problem.where == str(root / "screw") and what in problem.what
    assert step.replace("SCREW", str(root / "screw")) in problem.next_step


def test_classes_without_folders_beside_sorted_ones_are_named_with_where_their_images_belong(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for number, each in enumerate(("screw/good", "nut/good", "nut/bad", "washer")):
        write_images(root / each, 6, seed=number)
    (problem,) = check_dataset(folder(root), IMAGES)
    assert str(problem) == (
        f"{root}: the images of washer are in no folder good, unlike those of nut and screw. Allowed: a folder good in "
        f"each class. In {root}, move images that are normal: those of washer to 'washer/good'."
    )
    (root / "washer" / "good").mkdir()
    for image in (root / "washer").glob("*.png"):
        image.rename(root / "washer" / "good" / image.name)
    assert load(folder(root)).classes == ("nut", "screw", "washer")


def test_images_beside_classes_with_good_belong_to_one_of_them(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for number, each in enumerate(("screw/good", "nut/good", ".")):
        write_images(root / each, 6, seed=number)
    (problem,) = check_dataset(folder(root), IMAGES)
    assert problem.next_step == (
        "If they are normal, move them to a folder good of their class, such as 'nut/good'. To read only these images, "
        "set dataset.options.layout: flat"
    )


@pytest.mark.parametrize(
    ("others", "what", "step"),
    [
        (["scratched"], "scratched is neither", "If it is a type of defect, set LAYOUT, or move scratched to "),
        (["bent", "scratched"], "bent and scratched are neither", "If they are types of defects, set LAYOUT, or move "),
    ],
)
def test_defects_of_the_only_class_are_read_when_the_layout_is_named_or_after_the_move(
    tmp_path: Path, others: list[str], what: str, step: str
) -> None:
    root = tmp_path / "data"
    for number, each in enumerate(["good", *others]):
        write_images(root / "coins" / each, 12, seed=number)
    (problem,) = check_dataset(folder(root), IMAGES)
    assert problem.what == f"its folder good looks like normal images, but {what} normal nor anomalous"
    assert problem.next_step.startswith(step.replace("LAYOUT", "dataset.options.layout: mvtec"))
    assert problem.next_step.endswith("scratched to bad/scratched")
    assert set(load(folder(root, options={"layout": "mvtec"})).defect) == {"", *others}
    for each in others:
        (root / "coins" / "bad").mkdir(exist_ok=True)
        (root / "coins" / each).rename(root / "coins" / "bad" / each)
    assert set(load(folder(root)).defect) == {"", *others}


@pytest.mark.parametrize(
    ("parts", "what", "step"),
    [
        (["a/b/good"], "its folder a/b/good looks like normal images", "move 'bolt/a/b/good' to 'bolt/good/a/b'."),
        (["bad"], "its folder bad looks like anomalous images, and would be", "Put the normal images into BOLT/good."),
        (["bad", "other"], "its folder bad looks like anomalous images", "move 'bolt/other' to 'bolt/good', if other"),
    ],
)
def test_a_part_of_a_class_without_the_other_is_refused_with_where_it_belongs(
    tmp_path: Path, parts: list[str], what: str, step: str
) -> None:
    root = tmp_path / "data"
    for number, part in enumerate(parts):
        write_images(root / "bolt" / part, 4, seed=number)
    (problem,) = check_dataset(folder(root), IMAGES)
    assert problem.where == str(root / "bolt") and problem.what.startswith(what)
    assert step.replace("BOLT", str(root / "bolt")) in str(problem)


def test_a_tree_of_two_minds_keeps_its_error(tmp_path: Path) -> None:
    for each in ("train/good", "test/good", "test/bad", "bolt/train/good"):
        write_images(tmp_path / "data" / each, 2)
    assert check_dataset(folder(tmp_path / "data"), IMAGES)
    with pytest.raises(DataError):
        dataset_facts(folder(tmp_path / "data"))


def test_a_layout_that_is_asked_for_must_fit(tmp_path: Path) -> None:
    root = write_one_vs_rest(tmp_path / "data", ("cat", "dog"), split=False)
    (problem,) = check_dataset(folder(root, options={"layout": "mvtec"}), IMAGES)
    assert problem.where == "dataset.options.layout" and "is not laid out as 'mvtec'" in problem.what
    (problem,) = check_dataset(folder(root, options={"layout": "flat"}, protocol="one_vs_rest"), IMAGES)
    assert "always defects" in problem.what


def test_a_lone_type_of_defects_is_read_when_the_layout_is_named(tmp_path: Path) -> None:
    write_images(tmp_path / "part" / "train" / "good", 3)
    write_images(tmp_path / "part" / "test" / "scratch", 2)
    assert "layout: mvtec" in str(check_dataset(folder(tmp_path / "part"), IMAGES)[0])
    corpus = load(folder(tmp_path / "part", options={"layout": "mvtec"}))
    assert sizes(corpus, "part") == (3, 0, 0, 2) and set(corpus.defect) == {"", "scratch"}
