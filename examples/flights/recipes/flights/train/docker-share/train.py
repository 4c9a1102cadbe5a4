"""Learns which flights arrive late. `work` and `seed` are parameters; `auc` is read back."""

import duckdb
import numpy as np
import skops.io
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

WORDS = ["carrier", "origin"]
NUMBERS = [
    "month", "hour", "distance_miles", "seats", "temp_f", "wind_mph", "rain_in", "visibility_miles",
]

rows = duckdb.sql(f"SELECT * FROM read_parquet('{work}/features.parquet')").fetchnumpy()
words = np.column_stack([rows[name].astype(str) for name in WORDS]).astype(object)
numbers = np.column_stack([np.ma.filled(np.ma.asarray(rows[n], dtype=float), np.nan) for n in NUMBERS])
features = np.column_stack([words, numbers.astype(object)])
late = np.asarray(rows["is_late"], dtype=int)

seen, unseen, late_seen, late_unseen = train_test_split(
    features, late, test_size=0.25, random_state=seed, stratify=late
)
model = make_pipeline(
    make_column_transformer(
        (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), [0, 1]),
        remainder="passthrough",
    ),
    HistGradientBoostingClassifier(max_iter=120, random_state=seed),
)
model.fit(seen, late_seen)
auc = round(float(roc_auc_score(late_unseen, model.predict_proba(unseen)[:, 1])), 4)
training_rows_used = len(seen)
skops.io.dump(model, f"{work}/delay_model.skops")
LOGGER.info("learned from %d flights, AUC %.4f on %d others", training_rows_used, auc, len(unseen))
