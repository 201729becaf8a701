resource "aws_kms_key" "database" {
  description         = "Database of ${local.prefix}"
  enable_key_rotation = true
}

resource "aws_kms_alias" "database" {
  name          = "alias/${local.prefix}-database"
  target_key_id = aws_kms_key.database.key_id
}

resource "aws_security_group" "database_clients" {
  name        = "${local.prefix}-database-clients"
  description = "May connect to the database of ${local.prefix}"
  vpc_id      = aws_vpc.this.id
}

resource "aws_security_group" "database" {
  name        = "${local.prefix}-database"
  description = "Database of ${local.prefix}"
  vpc_id      = aws_vpc.this.id
}

# PostgreSQL from the metadata service. (A description of a rule between groups is lost by moto when the rule is made.)
resource "aws_vpc_security_group_ingress_rule" "database" {
  security_group_id            = aws_security_group.database.id
  referenced_security_group_id = aws_security_group.database_clients.id
  ip_protocol                  = "tcp"
  from_port                    = 5432
  to_port                      = 5432
}

resource "aws_db_subnet_group" "this" {
  name        = local.prefix
  description = "Private subnets of ${local.prefix}"
  subnet_ids  = aws_subnet.private[*].id
}

resource "aws_db_parameter_group" "this" {
  name        = "${local.prefix}-postgres17"
  description = "PostgreSQL of ${local.prefix}"
  family      = "postgres17"
  parameter {
    name  = "rds.force_ssl"
    value = "1"
  }
}

resource "aws_db_instance" "this" {
  identifier              = local.prefix
  engine                  = "postgres"
  engine_version          = "17"
  instance_class          = "db.t4g.small"
  allocated_storage       = 20
  max_allocated_storage   = 100
  storage_type            = "gp3"
  storage_encrypted       = true
  kms_key_id              = aws_kms_key.database.arn
  db_name                 = "metaflow"
  username                = "metaflow"
  password_wo             = ephemeral.aws_secretsmanager_random_password.database.random_password
  password_wo_version     = 1
  db_subnet_group_name    = aws_db_subnet_group.this.name
  parameter_group_name    = aws_db_parameter_group.this.name
  vpc_security_group_ids  = [aws_security_group.database.id]
  backup_retention_period = 7
  copy_tags_to_snapshot   = true
  skip_final_snapshot     = true
}
