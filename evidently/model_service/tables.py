"""The tables. `migrations/` makes them; a test holds both against each other."""

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    MetaData,
    Table,
    Text,
    func,
)

NUTRIENTS = (
    "fat",
    "saturatedFat",
    "transFat",
    "cholesterol",
    "sodium",
    "carbohydrates",
    "fiber",
    "sugars",
    "protein",
    "calcium",
    "iron",
    "potassium",
    "calories",
)
TARGET = "score"
PREDICTION = "predictions"

metadata = MetaData()


def _now(name: str) -> Column:
    return Column(name, DateTime(timezone=True), nullable=False, server_default=func.now())


def _predictions(name: str) -> Table:
    return Table(
        name,
        metadata,
        Column("id", BigInteger, Identity(always=True), primary_key=True),
        Column("fid", BigInteger, nullable=False),
        *(Column(nutrient, Double, nullable=False) for nutrient in NUTRIENTS),
        # What was measured; who asks for a prediction need not know it.
        Column(TARGET, Double),
        Column(PREDICTION, Double, nullable=False),
        Column("model_version", Text, nullable=False),
        _now("predicted_at"),
    )


#: The models that there are, each with the table of its predictions.
PREDICTIONS = {
    "xgboost_model": _predictions("xgboost_prediction"),
    "linear_regression_model": _predictions("linear_regression_prediction"),
}

#: The deployed versions. Their checksums stand here too, so that nothing is loaded that was changed later.
model_version = Table(
    "model_version",
    metadata,
    Column("model_name", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column("sha256", Text, nullable=False),
    Column("reference_sha256", Text, nullable=False),
    _now("deployed_at"),
)

#: Every switch. A model's latest one says which version is active; `previous_id` is what a rollback goes back to.
activation = Table(
    "activation",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("model_name", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("previous_id", BigInteger, ForeignKey("activation.id")),
    _now("activated_at"),
    ForeignKeyConstraint(["model_name", "version"], ["model_version.model_name", "model_version.version"]),
    Index("activation_of_model", "model_name", "id"),
)
