"""Where the maintainers' images and checkpoint lie: beside the clone, or nowhere, and then the tests of them skip."""

from pathlib import Path

SHARED = Path(__file__).parents[2] / "shared" / "data"
LOSSLESS = SHARED / "cifar10" / "test_1017_lossless.npz"  # the first CIFAR-10 test images: x uint8 (N, H, W, C), y
PUBLIC = SHARED / "checkpoints" / "resnet20-12fca82f.th"  # a public CIFAR-10 ResNet-20
TRUTH = SHARED / "truth"  # two networks that were trained to resist, and the images that a verifier bracketed them on
