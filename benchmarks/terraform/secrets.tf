resource "aws_kms_key" "secrets" {
  description         = "Secrets of ${local.prefix}"
  enable_key_rotation = true
}

resource "aws_kms_alias" "secrets" {
  name          = "alias/${local.prefix}-secrets"
  target_key_id = aws_kms_key.secrets.key_id
}

resource "aws_secretsmanager_secret" "database" {
  name                    = "${local.prefix}/database"
  description             = "Master user of the metadata database of ${local.prefix}"
  kms_key_id              = aws_kms_key.secrets.arn
  recovery_window_in_days = 0
}

# Neither the state nor the plan knows it.
ephemeral "aws_secretsmanager_random_password" "database" {
  password_length     = 40
  exclude_punctuation = true
}

resource "aws_secretsmanager_secret_version" "database" {
  secret_id = aws_secretsmanager_secret.database.id
  secret_string_wo = jsonencode({
    username = "metaflow"
    password = ephemeral.aws_secretsmanager_random_password.database.random_password
  })
  secret_string_wo_version = 1
}
