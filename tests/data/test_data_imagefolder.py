import numpy as np
import PIL.Image
import pytest
import torch
from sklearn.datasets import load_digits, load_sample_image
from torchvision import transforms
from torchvision.datasets import ImageFolder

from robustkit import data
from robustkit.base.errors import UserError
from robustkit.data import _images

DIGITS = (load_digits().images * 15).astype(np.uint8)
TARGET = load_digits().target


def write_digits(root, rows, classes=3):
    """Write real digits below ``classes`` as grey PNG files; returns how many."""
    rows = [row for row in rows if TARGET[row] < classes]
    for row in rows:
        folder = root / f"class{TARGET[row]}"
        folder.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(DIGITS[row]).save(folder / f"{row:04d}.png")
    return len(rows)


def write_crops(root, *, sizes=((24, 32),), n=4):
    """Write crops of two real photos as colour PNG files, of (H, W) in turn."""
    for name in ("china.jpg", "flower.jpg"):
        folder = root / name[:-4]
        folder.mkdir(parents=True)
        photo = load_sample_image(name)
        for i in range(n):
            h, w = sizes[i % len(sizes)]
            PIL.Image.fromarray(photo[20 * i : 20 * i + h, 30 * i : 30 * i + w]).save(folder / f"{i}.png")
    return root


def pixels(file):
    return torch.from_numpy(np.array(PIL.Image.open(file)))


def test_own_division(tmp_path):
    n, n_test = write_digits(tmp_path / "train", range(400)), write_digits(tmp_path / "test", range(400, 600))
    loaded = data.load(f"imagefolder:{tmp_path}")
    assert (loaded.whole, loaded.shape, loaded.classes) == (False, (1, 8, 8), ("class0", "class1", "class2"))
    train, validation, test = (loaded.split(name) for name in data.SPLITS)
    assert (len(train) + len(validation), len(validation), len(test)) == (n, n // 10, n_test)
    reference = ImageFolder(tmp_path / "test")
    assert sorted(test.ids.tolist()) == list(range(n_test))
    assert len(set(test.y[:12].tolist())) == 3
    for id_, x, y in zip(*test.batch(range(n_test)), strict=True):
        file, label = reference.samples[id_]
        assert y == label
        assert torch.equal(x[0], pixels(file) / 255)


def test_val_is_test_or_validation(tmp_path):
    write_digits(tmp_path / "train", range(100))
    n_val = write_digits(tmp_path / "val", range(100, 150))
    assert len(data.load(f"imagefolder:{tmp_path}").split("test")) == n_val
    n_test = write_digits(tmp_path / "test", range(150, 300))
    loaded = data.load(f"imagefolder:{tmp_path}")
    assert (len(loaded.split("validation")), len(loaded.split("test"))) == (n_val, n_test)


def test_whole_colour(tmp_path):
    loaded = data.load(f"imagefolder:{write_crops(tmp_path, n=10)}")
    assert (loaded.whole, loaded.shape, loaded.flip) == (True, (3, 24, 32), True)
    everything = loaded.everything()
    ids, x, y = everything.batch([4, 0, 4])
    reference = ImageFolder(tmp_path)
    for i in range(3):
        file, label = reference.samples[ids[i]]
        assert y[i] == label
        assert torch.equal(x[i], pixels(file).permute(2, 0, 1) / 255)
    assert torch.equal(everything.tensor()[[4, 0, 4]], x)
    assert [loaded.split(name).y.bincount().tolist() for name in data.SPLITS] == [[7, 7], [1, 1], [2, 2]]


def test_only_what_is_asked_for_is_decoded_and_only_once(tmp_path, monkeypatch):
    seen = []
    original = _images.Images._decode
    monkeypatch.setattr(_images.Images, "_decode", lambda self, row: (seen.append(row), original(self, row))[1])
    split = data.load(f"imagefolder:{write_crops(tmp_path)}").everything()
    first = split.batch([1, 3, 1])[1]
    assert sorted(seen) == sorted(split.ids[[1, 3]].tolist())
    assert torch.equal(split.batch([1, 3, 1])[1], first)
    assert len(seen) == 2
    monkeypatch.setattr(_images, "CACHE_BYTES", 0)
    uncached = data.load(f"imagefolder:{tmp_path}").everything()
    assert torch.equal(uncached.batch([1, 3, 1])[1], first)
    uncached.batch([1, 3])
    assert len(seen) == 6
    assert uncached.sha256() == split.sha256()


def test_grey_only_if_the_first_of_every_class_is(tmp_path):
    write_digits(tmp_path, range(60))
    first = sorted((tmp_path / "class1").iterdir())[0]
    PIL.Image.open(first).convert("RGB").save(first)
    loaded = data.load(f"imagefolder:{tmp_path}")
    x = loaded.everything().tensor()
    assert loaded.shape == (3, 8, 8)
    assert torch.equal(x[:, 0], x[:, 2])


def test_sizes_must_agree_unless_given(tmp_path):
    write_crops(tmp_path, sizes=((24, 32), (40, 20)))
    with pytest.raises(UserError) as error:
        data.load(f"imagefolder:{tmp_path}").everything().tensor()
    assert "is 20x40 but the first one is 32x24; bring all to NxN with --image-size N." in str(error.value)
    assert "/1.png'" in str(error.value) or "/3.png'" in str(error.value)
    loaded = data.load(f"imagefolder:{tmp_path}", image_size=10)
    assert loaded.shape == (3, 10, 10)
    _, x, _ = loaded.everything().batch(range(8))
    ids = loaded.everything().ids
    with PIL.Image.open(ImageFolder(tmp_path).samples[ids[0]][0]) as image:
        size = (13, 10) if image.size == (32, 24) else (10, 20)
        resized = np.array(image.resize(size, PIL.Image.Resampling.BILINEAR)).astype(float) / 255
    left, top = round((size[0] - 10) / 2), round((size[1] - 10) / 2)
    assert np.allclose(x[0].permute(1, 2, 0), resized[top : top + 10, left : left + 10], atol=1e-6)


def test_as_imagenet_is_evaluated(tmp_path):
    """The shorter side to 24, the centre of 20 cut out: what torchvision does with 256 and 224."""
    write_crops(tmp_path, sizes=((48, 64), (40, 30)))
    loaded = data.load(f"imagefolder:{tmp_path}", image_size="24:20")
    assert (loaded.shape, loaded.image_size) == ((3, 20, 20), "24:20")
    ids, x, _ = loaded.everything().batch(range(8))
    published = transforms.Compose([transforms.Resize(24), transforms.CenterCrop(20), transforms.PILToTensor()])
    reference = ImageFolder(tmp_path, transform=published)
    for id_, image in zip(ids.tolist(), x, strict=True):
        assert torch.equal((image * 255).round().byte(), reference[id_][0])
    alone = data.load(f"imagefolder:{tmp_path}", image_size="20").everything().tensor()
    assert not torch.equal(alone, loaded.everything().tensor())
    assert torch.equal(alone, data.load(f"imagefolder:{tmp_path}", image_size=20).everything().tensor())


@pytest.mark.parametrize("size", ["20:24", "0", -3, "20:", "a", "20:10:5", "24x20", "20:0"])
def test_no_such_size(tmp_path, size):
    with pytest.raises(UserError, match=f"image size '{size}' is out of range; write 224, or 256:224 to resize to 256"):
        data.load(f"imagefolder:{tmp_path}", image_size=size)


def test_sizes_of_the_classes_are_compared_at_once(tmp_path):
    write_crops(tmp_path)
    PIL.Image.new("RGB", (9, 7)).save(tmp_path / "flower" / "0.png")
    with pytest.raises(UserError, match=r"flower/0.png' is 9x7 but the first one is 32x24; .* --image-size N"):
        data.load(f"imagefolder:{tmp_path}")


@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_a_corrupt_image_is_named(tmp_path, content):
    write_crops(tmp_path)
    file = tmp_path / "china" / "2.png"
    file.write_bytes(file.read_bytes()[:-300] if content is None else content)
    loaded = data.load(f"imagefolder:{tmp_path}")
    with pytest.raises(UserError, match=r"image '.*/china/2.png' cannot be read \(.*\); repair or remove it"):
        loaded.everything().tensor()


def test_images_that_would_be_changed_silently_are_refused(tmp_path):
    write_digits(tmp_path, range(60))
    files = sorted((tmp_path / "class2").iterdir())
    PIL.Image.new("RGB", (8, 8), (200, 0, 0)).save(files[1])
    with pytest.raises(UserError, match=f"'{files[1]}' is in colour, the first of each class is grey"):
        data.load(f"imagefolder:{tmp_path}").everything().tensor()
    PIL.Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(files[0])
    with pytest.raises(UserError, match="more than 8 bits per channel"):
        data.load(f"imagefolder:{tmp_path}")


def test_hidden_folders_do_not_count(tmp_path):
    write_crops(tmp_path)
    (tmp_path / ".ipynb_checkpoints").mkdir()
    assert data.load(f"imagefolder:{tmp_path}").classes == ("china", "flower")


def test_a_class_may_be_called_train(tmp_path):
    write_crops(tmp_path)
    (tmp_path / "flower").rename(tmp_path / "train")
    assert data.load(f"imagefolder:{tmp_path}").classes == ("china", "train")


def test_wrong_folders(tmp_path):
    def message(path, **options):
        with pytest.raises(UserError) as error:
            data.load(f"imagefolder:{path}", **options)
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "none' does not exist" in message(tmp_path / "none")
    file = tmp_path / "file.png"
    file.touch()
    assert "is a file" in message(file)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "needs at least two class folders with images in them; it has none" in message(empty)
    (empty / "a").mkdir()
    assert "it has only 'a'" in message(empty)
    (empty / "b").mkdir()
    assert "a' has no images; add some (.jpg" in message(empty)
    alone = tmp_path / "alone"
    write_crops(alone / "train")
    assert f"has train/ but no test/ or val/; add it, or take all of imagefolder:{alone / 'train'}." in message(alone)
    write_crops(alone / "test")
    (alone / "test" / "flower").rename(alone / "test" / "flour")
    text = "test may lack some of its 2 classes, and have no others."
    assert message(alone).endswith(text)
    assert message(alone).startswith("'flour' is a class folder of ")


@pytest.mark.parametrize("empty", [False, True])
def test_a_test_folder_may_lack_a_class_and_labels_stay(tmp_path, empty):
    write_digits(tmp_path / "train", range(100), classes=4)
    write_digits(tmp_path / "test", range(100, 200), classes=4)
    for file in (tmp_path / "test" / "class1").iterdir():
        file.unlink()
    if not empty:
        (tmp_path / "test" / "class1").rmdir()
    loaded = data.load(f"imagefolder:{tmp_path}")
    assert loaded.classes == ("class0", "class1", "class2", "class3")
    assert sorted(set(loaded.split("test").y.tolist())) == [0, 2, 3]
    assert loaded.source.notes == ("test has no images of class1; labels are the places among train's classes",)
