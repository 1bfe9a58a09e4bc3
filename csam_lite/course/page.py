"""A notebook as it is kept and read: tidied outputs, small pictures, one HTML page that opens offline."""

import base64
import json
import re

from csam_lite.common.files import whole_file


def tidy(notebook):
    """Take out what says nothing on a page: widgets, which live only with a kernel, and values such as <function f at 0x7f..>."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        kept = []
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            widget = data.pop("application/vnd.jupyter.widget-view+json", None)
            empty = widget or output.output_type == "execute_result" and re.fullmatch(r"<.*>", data.get("text/plain", ""))
            kept += [] if empty and set(data) <= {"text/plain"} else [output]
        if cell.cell_type == "code":
            cell.outputs = kept


def make_smaller(notebook, most=270_000):
    """Pack the pictures well without loss; where the notebook is still large, the largest ones to fewer colours, until it is not."""
    from io import BytesIO

    from PIL import Image

    def pack(data, colours):
        picture, packed = Image.open(BytesIO(base64.b64decode(data["image/png"]))).convert("RGBA"), BytesIO()
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
        if colours:
            picture = picture.quantize(colours, Image.Quantize.FASTOCTREE, kmeans=1, dither=Image.Dither.NONE)
        picture.save(packed, "png", optimize=True)
        data["image/png"] = min(base64.b64encode(packed.getvalue()).decode(), data["image/png"].replace("\n", ""), key=len)

    pictures = [output.data for cell in notebook.cells for output in cell.get("outputs", ()) if "image/png" in output.get("data", {})]
    for data in pictures:
        pack(data, 0)
    for colours in (256, 128):
        for data in sorted(pictures, key=lambda data: -len(data["image/png"])):
            if len(json.dumps(notebook)) > most:
                pack(data, colours)


def write_page(notebook, path):
    """One HTML page that loads nothing: equations become MathML, scripts of other hosts are left out."""
    import copy

    from nbconvert import HTMLExporter

    notebook = copy.deepcopy(notebook)
    tidy(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = _with_mathml(re.sub(r"!\[([^\]]*)\]\(https?:[^)]*\)", r"\1", cell.source))  # a badge is a picture of another host
    page, _ = HTMLExporter(template_name="lab").from_notebook_node(notebook)
    page = re.sub(r'<script\s[^>]*src="https?:[^>]*>\s*</script>', "", page)
    page = re.sub(r"<script[^>]*>(?:(?!</script>).)*?https://(?:cdnjs|unpkg|cdn\.)(?:(?!</script>).)*</script>", "", page, flags=re.DOTALL)
    with whole_file(path) as part:
        part.write_text(page, encoding="utf-8")


def _with_mathml(text):
    """Markdown with $equations$ outside of code turned into MathML, which browsers draw without a script."""
    from latex2mathml.converter import convert

    def one(match):
        code, block, inline = match.groups()
        if code:
            return code
        try:
            mathml = convert((block or inline).strip(), display="block" if block else "inline")
        except Exception:  # an equation that the converter does not know stays readable as LaTeX
            return match.group()
        return "".join(mathml.split("\n")).replace("*", "&#42;").replace("_", "&#95;")

    return re.sub(r"(```.*?```|`[^`\n]+`)|\$\$(.+?)\$\$|(?<![\\$])\$(?!\s)([^$\n]+?)(?<!\s)\$(?!\d)", one, text, flags=re.DOTALL)
