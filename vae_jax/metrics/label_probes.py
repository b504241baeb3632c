"""Test accuracy of simple classifiers of labels [N] from codes [N, Z].

They have no hyper-parameters to be tuned, so there is no validation split.
"""

from typing import Any

import numpy as np

from vae_jax.errors import UserError


def linear_probe(
    train_codes: np.ndarray,
    train_labels: np.ndarray | None,
    test_codes: np.ndarray,
    test_labels: np.ndarray | None,
) -> float:
    """Test accuracy of multinomial logistic regression.

    Codes are standardized by the mean and standard deviation of the training codes.
    The penalty is scikit-learn's default (C = 1), which has little influence at thousands of
    examples.

    Raises:
      UserError: there are no labels, or those of the training set are all the same.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    _check(train_labels, test_labels)
    regression = LogisticRegression(C=1.0, solver="lbfgs", max_iter=1000)
    classifier = make_pipeline(StandardScaler(), regression)
    return _accuracy(classifier, train_codes, train_labels, test_codes, test_labels)


def nearest_neighbours(
    train_codes: np.ndarray,
    train_labels: np.ndarray | None,
    test_codes: np.ndarray,
    test_labels: np.ndarray | None,
    k: int = 10,
) -> float:
    """Test accuracy of a vote among the `k` nearest training codes; ties: the lowest label.

    Distances are Euclidean, of the codes as they are: standardized, the noise of a collapsed unit
    would count as much as a used unit.

    Raises:
      UserError: there are no labels, or those of the training set are all the same.
    """
    from sklearn.neighbors import KNeighborsClassifier

    _check(train_labels, test_labels)
    # Search trees are no faster above about 15 units.
    classifier = KNeighborsClassifier(k, algorithm="brute")
    return _accuracy(classifier, train_codes, train_labels, test_codes, test_labels)


def _accuracy(
    classifier: Any,
    train_codes: np.ndarray,
    train_labels: np.ndarray | None,
    test_codes: np.ndarray,
    test_labels: np.ndarray | None,
) -> float:
    classifier.fit(np.asarray(train_codes, np.float64), train_labels)
    predicted = classifier.predict(np.asarray(test_codes, np.float64))
    return float(np.mean(predicted == test_labels))


def _check(train_labels: np.ndarray | None, test_labels: np.ndarray | None) -> None:
    if train_labels is None or test_labels is None:
        raise UserError("a probe needs labels, and this dataset has none")
    if np.issubdtype(train_labels.dtype, np.floating):
        raise UserError("a probe needs labels of classes, integers, and these are real numbers")
    if len(np.unique(train_labels)) < 2:
        raise UserError(
            "a probe needs labels of two classes or more, and every training example has the same"
        )
