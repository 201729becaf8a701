resource "aws_cloudwatch_log_group" "metadata" {
  name              = "/${local.prefix}/metadata-service"
  retention_in_days = 30
}

resource "aws_security_group" "metadata" {
  name        = "${local.prefix}-metadata"
  description = "Metadata service of ${local.prefix}"
  vpc_id      = aws_vpc.this.id
}

resource "aws_vpc_security_group_ingress_rule" "metadata" {
  for_each = {
    for pair in setproduct([8080, 8082], [0, 1]) : join("-", pair) => { port = pair[0], subnet = tonumber(pair[1]) }
  }
  security_group_id = aws_security_group.metadata.id
  description       = "Load balancer to service and migrations"
  ip_protocol       = "tcp"
  from_port         = each.value.port
  to_port           = each.value.port
  cidr_ipv4         = aws_subnet.private[each.value.subnet].cidr_block
}

resource "aws_vpc_security_group_egress_rule" "metadata_https" {
  security_group_id = aws_security_group.metadata.id
  description       = "Image, secrets and log"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  cidr_ipv4         = "0.0.0.0/0"
}

resource "aws_vpc_security_group_egress_rule" "metadata_database" {
  security_group_id = aws_security_group.metadata.id
  description       = "Database"
  ip_protocol       = "tcp"
  from_port         = 5432
  to_port           = 5432
  cidr_ipv4         = aws_vpc.this.cidr_block
}

resource "aws_ecs_cluster" "this" {
  name = local.prefix
  setting {
    name  = "containerInsights"
    value = "disabled"
  }
}

resource "aws_ecs_cluster_capacity_providers" "this" {
  cluster_name       = aws_ecs_cluster.this.name
  capacity_providers = ["FARGATE", "FARGATE_SPOT"]
}

resource "aws_ecs_task_definition" "metadata" {
  family                   = "${local.prefix}-metadata"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = 512
  memory                   = 1024
  execution_role_arn       = aws_iam_role.this["metadata-execution"].arn
  container_definitions = jsonencode([{
    name         = "metadata-service"
    image        = "public.ecr.aws/outerbounds/metaflow_metadata_service:2.5.0"
    essential    = true
    portMappings = [for port in [8080, 8082] : { containerPort = port, hostPort = port, protocol = "tcp" }]
    environment = [for name, value in {
      MF_METADATA_DB_HOST            = aws_db_instance.this.address
      MF_METADATA_DB_PORT            = tostring(aws_db_instance.this.port)
      MF_METADATA_DB_NAME            = "metaflow"
      MF_METADATA_DB_SSL_MODE        = "require"
      MF_METADATA_PORT               = "8080"
      MF_METADATA_HOST               = "0.0.0.0"
      MF_MIGRATION_PORT              = "8082"
      MF_MIGRATION_ENDPOINTS_ENABLED = "1"
    } : { name = name, value = value }]
    secrets = [
      { name = "MF_METADATA_DB_USER", valueFrom = "${aws_secretsmanager_secret.database.arn}:username::" },
      { name = "MF_METADATA_DB_PSWD", valueFrom = "${aws_secretsmanager_secret.database.arn}:password::" },
    ]
    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = aws_cloudwatch_log_group.metadata.name
        awslogs-region        = var.region
        awslogs-stream-prefix = "metadata"
      }
    }
  }])
}

resource "aws_ecs_service" "metadata" {
  name                               = "${local.prefix}-metadata"
  cluster                            = aws_ecs_cluster.this.id
  task_definition                    = aws_ecs_task_definition.metadata.arn
  desired_count                      = 1
  launch_type                        = "FARGATE"
  platform_version                   = "LATEST"
  propagate_tags                     = "SERVICE"
  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200
  health_check_grace_period_seconds  = 60
  wait_for_steady_state              = true
  depends_on = [
    aws_iam_role_policy.this, aws_lb_listener.this, aws_secretsmanager_secret_version.database,
    aws_vpc_security_group_ingress_rule.database,
    aws_ecs_cluster_capacity_providers.this,
  ]
  network_configuration {
    subnets          = aws_subnet.private[*].id
    security_groups  = [aws_security_group.metadata.id, aws_security_group.database_clients.id]
    assign_public_ip = false
  }
  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }
  dynamic "load_balancer" {
    for_each = local.ports
    content {
      target_group_arn = aws_lb_target_group.this[load_balancer.key].arn
      container_name   = "metadata-service"
      container_port   = load_balancer.value.target
    }
  }
}
