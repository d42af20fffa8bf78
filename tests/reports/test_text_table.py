from avssl.reports.text_table import markdown_table, percent, text_table


def test_text_tables_are_columns():
    assert text_table(["a", "bb"], [["long", "1"]]) == "a     bb\nlong   1"


def test_a_row_is_one_line_whatever_a_name_holds():
    assert text_table(["a"], [["two\nlines"]]) == "a\ntwo\\nlines"
    assert markdown_table(["a"], [["two\nlines"]]).splitlines()[-1] == "| two\\nlines |"


def test_markdown_tables_keep_their_cells_apart():
    assert markdown_table(["a", "b"], [["x|y", "1"]]) == "| a | b |\n| --- | ---: |\n| x\\|y | 1 |"


def test_percent_has_one_decimal_and_is_empty_for_nothing():
    assert (percent(0.3395), percent(1.0), percent(None)) == ("34.0", "100.0", "")
