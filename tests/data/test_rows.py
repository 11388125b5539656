"""Tables of images: forgiving in form, strict in meaning."""

import pytest
from PIL import Image

from divaug.base.errors import DataError
from divaug.data.datasets._rows import natural, rows_of_table
from divaug.data.images import Request


@pytest.fixture
def own(tmp_path):
    for name in ("a", "b", "c", "d"):
        Image.new("RGB", (4, 4)).save(tmp_path / f"{name}.png")
    return tmp_path


def read(own, text, name="own.csv", **keys):
    (own / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return rows_of_table(own / name, Request(**keys))


def labels(listing):
    return [(row.path.name, row.label) for row in listing.rows]


PLAIN = [("a.png", "cat"), ("b.png", "dog")]


@pytest.mark.parametrize(
    "text",
    [
        "path,label\na.png,cat\nb.png,dog\n",
        "path;label\na.png;cat\nb.png;dog\n",
        "path\tlabel\na.png\tcat\nb.png\tdog\n",
        "path|label\na.png|cat\nb.png|dog\n",
        "Path, Label\na.png, cat\n\n  \nb.png, dog\n",
        b"\xef\xbb\xbfpath,label\r\na.png,cat\r\nb.png,dog\r\n",
        "label,path\ncat,a.png\ndog,b.png",
        ",path,label\n0,a.png,cat\n1,b.png,dog\n",
        "Unnamed: 0,path,label\n0,a.png,cat\n1,b.png,dog\n",
        'path,label\n"a.png","cat"\n.\\b.png,dog\n',
        'path, label\na.png, "cat"\nb.png, "dog"\n',
        "sep=;\npath;label\na.png;cat\nb.png;dog\n",
    ],
)
def test_forms_of_one_table(own, text):
    assert labels(read(own, text)) == PLAIN


def test_columns_by_other_names(own):
    text = "file,class,patient,part,age\na.png,cat,p1,train,3\nb.png,dog,p2,validation,4\n"
    listing = read(own, text, path_column="file", label_column="class", group_column="patient", split_column="part")
    assert [(r.label, r.group, r.split) for r in listing.rows] == [("cat", "p1", "train"), ("dog", "p2", "val")]
    assert [f.text for f in listing.findings] == ["columns of own.csv that are not used: age"]


def test_list_files_of_the_field(own):
    text = "sub/a.png 0\nsub/with blank.png 10\nsub/b.png\t2\n"
    (own / "root" / "sub").mkdir(parents=True)
    for name in ("a", "with blank", "b"):
        Image.new("RGB", (4, 4)).save(own / "root" / "sub" / f"{name}.png")
    listing = read(own, text, "ImageNet_LT_train.txt", data_root=str(own / "root"))
    assert labels(listing) == [("a.png", "0"), ("with blank.png", "10"), ("b.png", "2")]
    with pytest.raises(DataError, match=r"line 2: a list file has a path and a label a line, got 'b\.png'"):
        read(own, "a.png 0\nb.png\n", "short.txt")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "file,label\na.png,cat\n",
            "lacks the column 'path': found 'file', 'label', separated by commas; --path-column",
        ),
        ("path label\na.png cat\n", "found 'path label', in one column; --path-column"),
        ("path,label,label\na.png,cat,dog\n", "has the column 'label' 2 times"),
        ("path,label\na.png,cell, red\n", r"line 2: 3 cells, but the header has 2: \['red'\] too many; quote"),
        ("path,label,split\na.png,cat\n", "line 2: 2 cells, but the header has 3"),
        ("path,label\n\n\na.png,cat\nb.png,\n", "line 5: empty label"),
        ('path,label\na.png,"two\nlines"\nb.png,\n', "line 4: empty label"),
        ("path,label\na.png,cat\nb.png,nan\n", "line 3: label 'nan' stands for a missing value, in 1 rows"),
        ("path,label\na.png,0\nb.png,0.0\n", "labels '0' and '0.0' are one number"),
        ("path,label,groups\na.png,cat,1\n", "unknown column 'groups'; did you mean 'group'"),
        ("path,label\nx.png,cat\na.png,cat\ny.png,cat\n", r"no such image in 2 of 3 rows: line 2: .*x\.png; line 4"),
        (b"path,label\na.png,caf\xe9\n", "it is not UTF-8 text"),
        ("path,label,part\na.png,cat,x\n", None),
        ('path,label\n"a.png,cat\n', "line 2: unexpected end of data"),
        ("path,label\n", "has no rows"),
        ("", "has no rows"),
        ("\n \n", "has no rows"),
        ("path,label\n" + "a" * 300 + ".png,cat\n", "no such image in 1 of 1 rows: line 2"),
        ('path,label\n"a.png","x\u2028y"\nb.png,\n', "line 3: empty label"),
    ],
)
def test_what_is_refused(own, text, message):
    if message is None:
        assert labels(read(own, text)) == PLAIN[:1]  # an unused column
        return
    with pytest.raises(DataError, match=message):
        read(own, text)


def test_what_is_said(own):
    listing = read(own, "path,label,split\na.png,None,test\nb.png,cat,\nc.png,cat,train\nd.png,None,\n")
    texts = {f.kind: f.text for f in listing.findings}
    assert "2 images of own.csv have the label 'None'" in texts["missing_label"]
    assert "2 of 4 rows of own.csv have an empty split (line 3 is the first)" in texts["unmarked"]


def test_numbers_in_names_count_as_numbers():
    names = ["class10", "class2", "1", "12", "2", "b", "B", ""]
    assert sorted(names, key=natural) == ["", "1", "2", "12", "B", "b", "class2", "class10"]


def test_long_numbers_are_compared_exactly(own):
    text = "path,label\na.png,900000000000207008\nb.png,900000000000207009\n"
    assert len(read(own, text).rows) == 2
    assert len(read(own, "path,label\na.png," + "1" * 5000 + "\nb.png,2\n").rows) == 2


def test_groups_that_are_missing_or_written_twice(own):
    listing = read(own, "path,label,group\na.png,cat,01\nb.png,dog,1\nc.png,cat,nan\nd.png,dog,\n")
    texts = [f.text for f in listing.findings if f.kind == "groups"]
    assert "2 of 4 rows of own.csv have no group" in texts[0] and "groups '01' and '1'" in texts[1]
    assert [row.group for row in listing.rows] == ["01", "1", "", ""]


def test_a_column_has_one_role(own):
    listing = read(own, "image,group\na.png,cat\nb.png,dog\n", path_column="image", label_column="group")
    assert [(row.label, row.group) for row in listing.rows] == [("cat", ""), ("dog", "")]
    with pytest.raises(DataError, match="'label' is named as group and as label"):
        read(own, "path,label\na.png,cat\n", group_column="label")
    with pytest.raises(DataError, match="a list file, which has no columns: --label-column"):
        read(own, "a.png 0\n", "x.txt", label_column="y")
