import numpy as np
import pytest
from matplotlib._pylab_helpers import Gcf

from waferlab.metrics.calibration import pseudo_label_error, reliability
from waferlab.metrics.multilabel import accuracy_by_pattern, pattern_confusion
from waferlab.tracking import figures
from waferlab.wafer import DEFECTS, pattern_labels

PNG = b"\x89PNG"


@pytest.fixture(scope="module")
def scored():
    """Every pattern four times, and logits that are wrong here and there."""
    labels = np.tile(pattern_labels(), (4, 1))
    return (labels * 4.0 - 2 + np.random.default_rng(0).normal(size=labels.shape)), labels


def texts(axes):
    return [label.get_text() for label in (*axes.get_yticklabels(), *axes.get_xticklabels())]


def test_pattern_accuracy_draws_a_bar_for_each_model_and_pattern(scored):
    logits, labels = scored
    teacher, student = accuracy_by_pattern(labels - 0.5, labels, DEFECTS), accuracy_by_pattern(logits, labels, DEFECTS)
    figure = figures.pattern_accuracy({"teacher": teacher, "student": student})
    (axes,) = figure.axes
    widths = [bar.get_width() for bar in axes.patches]
    assert widths[:38] == [100.0] * 38
    assert widths[38:] == pytest.approx([100 * accuracy for accuracy, _ in student.values()])
    assert "Center+Scratch  (4)" in texts(axes)
    assert [label.get_text() for label in axes.get_legend().get_texts()] == ["teacher", "student"]


def test_confusion_shows_row_shares_with_a_column_for_other_combinations(scored):
    logits, labels = scored
    matrix = pattern_confusion(logits, labels, DEFECTS)
    axes = figures.confusion(matrix).axes[0]
    shown = np.ma.filled(axes.images[0].get_array(), 0)
    np.testing.assert_allclose(shown.sum(1), 100)
    assert shown.shape == (38, 39)
    assert [label.get_text() for label in axes.get_xticklabels()] == [*matrix.names, "any other"]
    assert len(axes.texts) == (shown >= 1).sum()


def test_reliability_diagram_names_each_model_with_its_calibration_error(scored):
    curve = reliability(*scored)
    upper, lower = figures.reliability_diagram({"teacher": curve}).axes
    assert f"teacher: ECE {100 * curve.expected_calibration_error:.2f} %" in [
        label.get_text() for label in upper.get_legend().get_texts()
    ]
    np.testing.assert_array_equal(upper.lines[1].get_xydata(), np.stack([curve.predicted, curve.observed], 1))
    np.testing.assert_array_equal(lower.lines[0].get_ydata(), curve.count)


def test_pseudo_label_error_is_drawn_in_percent_with_its_minimum(scored):
    error = pseudo_label_error(*scored)
    (axes,) = figures.pseudo_label_error_curve(error).axes
    np.testing.assert_allclose(axes.lines[0].get_ydata(), 100 * error.per_map)
    np.testing.assert_allclose(axes.lines[2].get_ydata(), 100 * error.per_bit)
    assert f"least {100 * error.per_map.min():.2f} %" in axes.get_legend().get_texts()[0].get_text()


def test_misclassified_maps_shows_the_most_confident_mistakes_first():
    labels = np.array([[1, 0], [1, 0], [0, 1]], np.uint8)
    logits = np.array([[-1.0, -9.0], [9.0, -9.0], [5.0, 1.0]])
    maps = np.arange(3, dtype=np.uint8)[:, None, None] * np.ones((3, 6, 6), np.uint8)
    figure = figures.misclassified_maps(maps, labels, logits, ("A", "B"))
    first, second, *rest = figure.axes
    assert first.get_title(loc="left") == "true: B\npredicted: A + B"
    assert second.get_title(loc="left") == "true: A\npredicted: Normal"
    assert (first.images[0].get_array() == 2).all()
    assert not any(axes.images for axes in rest)
    assert figure.get_suptitle() == "2 of 3 maps misclassified"


def test_doubted_maps_shows_the_label_and_the_answer_of_the_surest():
    figure = figures.doubted_maps(np.zeros((3, 4, 4), np.uint8), ["A", "B", "A+B"], ["B", "A", "A"], limit=2)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[:3] == ["label: A\nall models: B", "label: B\nall models: A", ""]
    assert figure.get_suptitle() == "3 labels that all models contradict; the 2 surest"


def test_misclassified_maps_stops_at_the_limit_and_says_so(scored):
    logits, labels = scored
    maps = np.zeros((len(labels), 6, 6), np.uint8)
    figure = figures.misclassified_maps(maps, labels, -logits, DEFECTS, limit=3)
    assert sum(bool(axes.images) for axes in figure.axes) == 3
    assert figure.get_suptitle().endswith("misclassified; the 3 most confident")


def test_a_model_without_mistakes_gets_a_figure_that_says_so():
    labels = np.eye(2, dtype=np.uint8)
    figure = figures.misclassified_maps(np.zeros((2, 4, 4), np.uint8), labels, labels - 0.5, ("A", "B"))
    assert figure.get_suptitle() == "0 of 2 maps misclassified"


def test_every_figure_has_a_title_and_labelled_axes(scored):
    for figure in (
        figures.pattern_accuracy({"teacher": accuracy_by_pattern(*scored, DEFECTS)}),
        figures.confusion(pattern_confusion(*scored, DEFECTS)),
        figures.reliability_diagram({"teacher": reliability(*scored)}),
        figures.pseudo_label_error_curve(pseudo_label_error(*scored)),
    ):
        assert figure.get_suptitle()
        assert figure.axes[-1].get_xlabel() or figure.axes[-1].get_ylabel()


def test_save_writes_modest_png_files_in_order(scored, tmp_path):
    folder = tmp_path / "new" / "figures"
    drawn = {
        "confusion": figures.confusion(pattern_confusion(*scored, DEFECTS)),
        "accuracy": figures.pattern_accuracy({"teacher": accuracy_by_pattern(*scored, DEFECTS)}),
    }
    paths = figures.save(drawn, folder)
    assert paths == [folder / "confusion.png", folder / "accuracy.png"]
    assert all(path.read_bytes().startswith(PNG) and path.stat().st_size < 500_000 for path in paths)


def test_no_figure_enters_pyplots_global_state(scored):
    assert figures.reliability_diagram({"teacher": reliability(*scored)}).canvas.manager is None
    assert not Gcf.figs
