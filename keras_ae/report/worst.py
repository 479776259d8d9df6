"""The test rows of the highest scores, and the columns that these come from."""

import html

import numpy as np

from keras_ae import runtime
from keras_ae.judging import Judged
from keras_ae.report.observations import Observations
from keras_ae.report.pictures import number

ROWS, COLUMNS = 10, 3


def worst_rows(model: runtime.Model, judged: Judged, shown: Observations) -> str:
    """A table of the ten test rows of the highest scores and the three columns that add most to each, by `explain`;
    nothing where the model has no detector.
    """
    if "explain" not in model.signatures:
        return ""
    scores = model.score(judged.given.test)
    worst = np.argsort(-scores["score"], kind="stable")[:ROWS]
    rows = judged.given.test[worst]
    flat, rebuilt, parts = (a.reshape(len(rows), -1) for a in (rows, model.reconstruct(rows), model.explain(rows)))
    cells_of = [list(map(shown.cells, part)) for part in (flat, rebuilt)]
    lines = []
    for i, row in enumerate(worst):
        share = parts[i] / max(float(parts[i].sum()), 1e-30)
        cells = "".join(
            f"<span>{html.escape(shown.column(j))} <b>{share[j]:.0%}</b>"
            f"<small>{html.escape(cells_of[0][i][j])}; AE(x) {html.escape(cells_of[1][i][j])}</small></span>"
            for j in np.argsort(-share, kind="stable")[:COLUMNS]
        )
        p_value = f"<td>{scores['p_value'][row]:.2g}</td>" if "p_value" in scores else ""
        lines.append(
            f'<tr><th scope="row">{judged.test_rows[row]:,}</th><td>{number(float(scores["score"][row]))}</td>'
            f'{p_value}<td class="why"><div>{cells}</div></td></tr>'
        )
    head = ["test row", "score", *(["p&#8209;value"] if "p_value" in scores else []), "columns that add most"]
    titles = "".join(f'<th scope="col">{title}</th>' for title in head)
    table = f"<thead><tr>{titles}</tr></thead><tbody>{''.join(lines)}</tbody>"
    note = "The highest scores, and what share of each its three worst columns add; below, the value and AE(x)."
    return f'<h3>Worst rows</h3><p>{note}</p><div class="wide"><table>{table}</table></div>'
