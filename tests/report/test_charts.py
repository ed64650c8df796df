import numpy as np
import pytest

from bonepipe.report import charts


def test_bars_keep_their_order_and_say_their_values():
    figure = charts.bars(["b", "<a>"], [0.5, 0.0039], "Dice", digits=3)
    (trace,) = figure.data
    assert list(trace.y) == ["b", "&lt;a&gt;"]
    assert list(trace.x) == [0.5, 0.0039]
    assert list(trace.text) == ["0.500", "0.004"]
    assert figure.layout.yaxis.autorange == "reversed"
    assert figure.layout.template.to_plotly_json() == {}


def test_dots_stand_for_values_far_from_0_and_have_room_for_what_is_beside_them():
    (trace,) = (figure := charts.dots(["b", "<a>"], [0.91, 0.95], "Dice")).data
    assert (trace.x, trace.y, trace.text) == ((0.91, 0.95), ("b", "&lt;a&gt;"), ("0.9100", "0.9500"))
    low, high = figure.layout.xaxis.range
    assert 0.85 < low < 0.91 and 0.95 < high < 1
    (trace,) = (figure := charts.dots(["a"], [0.9], "Dice", errors=[0.02])).data
    low, high = figure.layout.xaxis.range
    assert trace.text is None and trace.error_x.array == (0.02,)
    assert low < 0.9 and high > 0.92


@pytest.mark.parametrize(
    ("values", "marks"),
    [((3, 40, np.nan, 0), ("1", "2", "5", "10", "20", "50", "100")), ((0.02, 0.3), ("0.01", "0.02", "0.05", "0.1"))],
)
def test_a_logarithmic_axis_writes_its_numbers_out(values, marks):
    axis = charts.log_axis("area", values)
    assert axis["type"] == "log"
    assert axis["ticktext"][: len(marks)] == list(marks)
    assert axis["tickvals"] == pytest.approx([float(text.replace(",", "")) for text in axis["ticktext"]])


def test_a_heat_map_writes_values_and_shades_by_rank():
    cells = np.array([[0.1, 0.9], [0.91, np.nan]])
    (trace,) = charts.heat_map(["r", "s"], ["c", "d"], cells, ranks=True, digits=2).data
    assert [list(row) for row in trace.text] == [["0.10", "0.90"], ["0.91", ""]]
    assert list(trace.z[0]) == pytest.approx([1 / 6, 0.5])
    assert trace.z[1][0] == pytest.approx(5 / 6)
    assert trace.z[1][1] is None or np.isnan(trace.z[1][1])


def test_histograms_are_shares_so_that_groups_of_any_size_compare():
    figure = charts.histograms({"few": [0, 1], "many": [0] * 50 + [1] * 50, "none": [np.nan]}, "x", bins=2)
    few, many, none = figure.data
    assert list(few.y) == list(many.y) == [50, 50, 0]
    assert list(none.y) == [0, 0, 0]
    assert many.name == "many (100)"


@pytest.mark.parametrize(("count", "bins"), [(4, 6), (100, 20), (1000, 30)])
def test_few_values_make_few_bins(count, bins):
    figure = charts.histograms({"many": range(5000), "few": range(count), "none": []}, "x")
    assert len(figure.data[0].x) == bins + 1


def test_lines_carry_bands_and_gaps():
    figure = charts.lines({"a": ([1, 2], [3, np.nan])}, "x", "y", bands={"a": ([2, 2], [4, 4])})
    band, line = figure.data
    assert list(band.x) == [1, 2, 2, 1]
    assert list(band.y) == [4, 4, 2, 2]
    assert list(line.y) == [3, None]


def test_boxes_are_quantiles_of_what_is_known():
    (trace,) = charts.boxes({"a": [*range(101), np.nan], "b": [np.nan]}, "x").data
    assert [trace.lowerfence[0], trace.q1[0], trace.median[0], trace.q3[0], trace.upperfence[0]] == [5, 25, 50, 75, 95]


def test_names_that_look_like_numbers_stay_names():
    """Teeth are numbered, and runs are named after days."""
    drawn = [charts.bars(["48", "11"], [1, 2], "Dice"), charts.dots(["48", "11"], [1, 2], "Dice")]
    drawn.append(charts.boxes({"2024-05-01": [1, 2], "7": [3]}, "Dice"))
    assert {figure.layout.yaxis.type for figure in drawn} == {"category"}
