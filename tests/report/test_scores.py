from bonepipe.report import scores


def test_where_a_report_stands_above_only_the_test_set_is_told():
    known = {"oof_dice": 0.5, "folds": [0.4, 0.6], "public": 0.25, "private": 0.125, "test_dice": 0.1875}
    assert scores.line(known) == "oof_dice 0.5000  public 0.2500  private 0.1250  test_dice 0.1875"
    assert scores.line(known, new=True) == "public 0.2500  private 0.1250  test_dice 0.1875"
    assert scores.line({"oof_dice": 0.5}, new=True) == ""
