"""What the paper reports: test accuracies in percent, as mean and deviation, and parameters."""

from __future__ import annotations

from typing import NamedTuple

TITLES = {
    "adult": "Adult",
    "fashion_mnist": "Fashion-MNIST",
    "mnist": "MNIST",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "svhn": "SVHN",
    "eurosat": "EuroSAT",
}


class Published(NamedTuple):
    """A cell of Tables 1, 2 and 5."""

    accuracy: float
    deviation: float
    thousands: float


SEARCH = {
    ("cifar10", 1.0): Published(54.2, 3.4, 100),
    ("cifar10", 0.5): Published(49.8, 5.1, 8),
    ("cifar10", 0.0): Published(50.0, 5.1, 8),
    ("cifar100", 1.0): Published(20.6, 3.1, 97),
    ("cifar100", 0.5): Published(18.2, 3.3, 7),
    ("cifar100", 0.0): Published(15.0, 2.6, 8),
    ("eurosat", 1.0): Published(78.1, 10.5, 301),
    ("eurosat", 0.5): Published(71.3, 7.1, 36),
    ("eurosat", 0.0): Published(70.7, 8.7, 17),
    ("fashion_mnist", 1.0): Published(87.2, 1.5, 43),
    ("fashion_mnist", 0.5): Published(83.7, 2.3, 6),
    ("fashion_mnist", 0.0): Published(83.9, 2.6, 6),
    ("mnist", 1.0): Published(98.3, 1.6, 43),
    ("mnist", 0.5): Published(94.7, 3.2, 6),
    ("mnist", 0.0): Published(94.8, 3.2, 6),
    ("svhn", 1.0): Published(77.2, 5.1, 68),
    ("svhn", 0.5): Published(69.7, 9.2, 14),
    ("svhn", 0.0): Published(70.5, 11.7, 9),
    ("adult", 1.0): Published(84.8, 0.7, 7.6),
    ("adult", 0.5): Published(83.6, 1.2, 1.5),
    ("adult", 0.0): Published(83.5, 1.3, 1.4),
}
"""Table 2, and for Adult Table 5, by data set and alpha."""

BASELINE = {
    "cifar10": Published(46.3, 4.7, 77),
    "cifar100": Published(16.0, 1.9, 78),
    "eurosat": Published(70.8, 20.0, 303),
    "fashion_mnist": Published(86.8, 1.4, 28),
    "mnist": Published(97.6, 2.2, 28),
    "svhn": Published(66.4, 13.0, 77),
    "adult": Published(84.4, 0.4, 5.5),
}
RANDOM = {
    "cifar10": Published(47.1, 3.5, 74),
    "cifar100": Published(14.8, 3.8, 80),
    "eurosat": Published(67.6, 15.2, 283),
    "fashion_mnist": Published(85.3, 2.7, 29),
    "mnist": Published(96.0, 3.4, 29),
    "svhn": Published(66.6, 10.2, 77),
    "adult": Published(83.7, 1.2, 6.5),
}

CROSSINGS = {
    (1.0, True): (70, 5),
    (1.0, False): (0, 75),
    (0.5, True): (75, 0),
    (0.5, False): (67, 8),
    (0.0, True): (75, 0),
    (0.0, False): (74, 1),
}
"""Table 3: runs that ended with and without cells, by alpha and whether they began with any."""

POOLING = {
    ("average", "structured"): (89.1, 96.0),
    ("average", "random"): (53.8, 95.6),
    ("max", "structured"): (13.4, 29.7),
    ("max", "random"): (49.3, 95.0),
}
"""Table 4, of MNIST: validation accuracy right after the change and after an epoch."""
POOLING_BEFORE = 98.6
