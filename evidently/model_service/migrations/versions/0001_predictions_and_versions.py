"""Tables for predictions, deployed versions and their activations."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

NUMBERS = (
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
PREDICTION_TABLES = ("xgboost_prediction", "linear_regression_prediction")


def now(name: str) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now())


def upgrade() -> None:
    for table in PREDICTION_TABLES:
        op.create_table(
            table,
            sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
            sa.Column("fid", sa.BigInteger, nullable=False),
            *(sa.Column(name, sa.Double, nullable=False) for name in NUMBERS),
            sa.Column("score", sa.Double),
            sa.Column("predictions", sa.Double, nullable=False),
            sa.Column("model_version", sa.Text, nullable=False),
            now("predicted_at"),
        )
    op.create_table(
        "model_version",
        sa.Column("model_name", sa.Text, primary_key=True),
        sa.Column("version", sa.Text, primary_key=True),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("reference_sha256", sa.Text, nullable=False),
        now("deployed_at"),
    )
    op.create_table(
        "activation",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("model_name", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("previous_id", sa.BigInteger, sa.ForeignKey("activation.id")),
        now("activated_at"),
        sa.ForeignKeyConstraint(["model_name", "version"], ["model_version.model_name", "model_version.version"]),
    )
    op.create_index("activation_of_model", "activation", ["model_name", "id"])


def downgrade() -> None:
    for table in ("activation", "model_version", *PREDICTION_TABLES):
        op.drop_table(table)
