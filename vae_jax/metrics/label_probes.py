"""How much of the labels simple classifiers read from the codes: accuracy on codes that they were not fitted to.

Nothing is tuned, so no split but the two that are given plays a part. Codes [N, Z], labels [N].
"""

import numpy as np

from vae_jax.errors import UserError


def linear_probe(
    train_codes: np.ndarray, train_labels: np.ndarray | None, test_codes: np.ndarray, test_labels: np.ndarray | None
) -> float:
    """Test accuracy of multinomial logistic regression on codes standardized by the training set's moments.

    With scikit-learn's default penalty (C = 1), nearly none at thousands of examples. Raises UserError where there is
    nothing to tell apart.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    _check(train_labels, test_labels)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, solver="lbfgs", max_iter=1000))
    return _accuracy(classifier, train_codes, train_labels, test_codes, test_labels)


def nearest_neighbours(
    train_codes: np.ndarray,
    train_labels: np.ndarray | None,
    test_codes: np.ndarray,
    test_labels: np.ndarray | None,
    k: int = 10,
) -> float:
    """Test accuracy of a vote among the `k` training codes at the least Euclidean distance; ties: the lowest label.

    Codes are taken as they are: standardized, the noise of a collapsed unit would weigh as much as a used unit.
    Raises UserError where there is nothing to tell apart.
    """
    from sklearn.neighbors import KNeighborsClassifier

    _check(train_labels, test_labels)
    classifier = KNeighborsClassifier(k, algorithm="brute")  # trees gain nothing beyond some 15 units
    return _accuracy(classifier, train_codes, train_labels, test_codes, test_labels)


def _accuracy(classifier, train_codes, train_labels, test_codes, test_labels) -> float:
    classifier.fit(np.asarray(train_codes, np.float64), train_labels)
    return float(np.mean(classifier.predict(np.asarray(test_codes, np.float64)) == test_labels))


def _check(train_labels: np.ndarray | None, test_labels: np.ndarray | None) -> None:
    if train_labels is None or test_labels is None:
        raise UserError("a probe needs labels, and this dataset has none")
    if len(np.unique(train_labels)) < 2:
        raise UserError("a probe needs labels of two classes or more, and every training example has the same")
