from bonepipe.report import markdown


def test_a_block_of_a_document_is_replaced_and_the_rest_stays(tmp_path):
    path = tmp_path / "notes.md"
    path.write_text("# Notes\n\nbefore\n\n<!-- a:start -->\nold\n<!-- a:end -->\n\nafter\n")
    markdown.replace_block(path, "a", "new", "Notes")
    assert path.read_text() == "# Notes\n\nbefore\n\n<!-- a:start -->\nnew\n<!-- a:end -->\n\nafter\n"
    markdown.replace_block(path, "b", "more", "Notes")
    assert path.read_text().endswith("after\n\n<!-- b:start -->\nmore\n<!-- b:end -->\n")
