locals {
  ports = { api = { listener = 80, target = 8080 }, mig = { listener = 8082, target = 8082 } }
}

resource "aws_lb" "this" {
  name               = local.prefix
  internal           = true
  load_balancer_type = "network"
  subnets            = aws_subnet.private[*].id
}

resource "aws_lb_target_group" "this" {
  for_each             = local.ports
  name                 = "${local.prefix}-${each.key}"
  port                 = each.value.target
  protocol             = "TCP"
  target_type          = "ip"
  vpc_id               = aws_vpc.this.id
  deregistration_delay = 30
  health_check {
    protocol            = "HTTP"
    path                = "/ping"
    interval            = 10
    healthy_threshold   = 2
    unhealthy_threshold = 2
  }
}

resource "aws_lb_listener" "this" {
  for_each          = local.ports
  load_balancer_arn = aws_lb.this.arn
  port              = each.value.listener
  protocol          = "TCP"
  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.this[each.key].arn
  }
}

resource "aws_api_gateway_vpc_link" "this" {
  name        = local.prefix
  target_arns = [aws_lb.this.arn]
}

resource "aws_api_gateway_rest_api" "this" {
  name        = local.prefix
  description = "Metadata service of ${local.prefix}"
}

resource "aws_api_gateway_resource" "this" {
  for_each    = toset(["{proxy+}", "db_schema_status", "upgrade"])
  rest_api_id = aws_api_gateway_rest_api.this.id
  parent_id   = aws_api_gateway_rest_api.this.root_resource_id
  path_part   = each.key
}

locals {
  backend = "http://${aws_lb.this.dns_name}"
  routes = {
    root = {
      resource = aws_api_gateway_rest_api.this.root_resource_id
      method   = "ANY"
      uri      = "${local.backend}/"
    }
    proxy = {
      resource = aws_api_gateway_resource.this["{proxy+}"].id
      method   = "ANY"
      uri      = "${local.backend}/{proxy}"
    }
    status = {
      resource = aws_api_gateway_resource.this["db_schema_status"].id
      method   = "GET"
      uri      = "${local.backend}:8082/db_schema_status"
    }
    upgrade = {
      resource = aws_api_gateway_resource.this["upgrade"].id
      method   = "PATCH"
      uri      = "${local.backend}:8082/upgrade"
    }
  }
}

resource "aws_api_gateway_method" "this" {
  for_each           = local.routes
  rest_api_id        = aws_api_gateway_rest_api.this.id
  resource_id        = each.value.resource
  http_method        = each.value.method
  authorization      = each.key == "upgrade" ? "AWS_IAM" : "NONE"
  api_key_required   = each.key != "upgrade"
  request_parameters = each.key == "proxy" ? { "method.request.path.proxy" = true } : {}
}

resource "aws_api_gateway_integration" "this" {
  for_each                = local.routes
  rest_api_id             = aws_api_gateway_rest_api.this.id
  resource_id             = each.value.resource
  http_method             = aws_api_gateway_method.this[each.key].http_method
  type                    = "HTTP_PROXY"
  integration_http_method = each.value.method
  uri                     = each.value.uri
  connection_type         = "VPC_LINK"
  connection_id           = aws_api_gateway_vpc_link.this.id
  request_parameters = each.key == "proxy" ? {
    "integration.request.path.proxy" = "method.request.path.proxy"
  } : {}
}

resource "aws_api_gateway_deployment" "this" {
  rest_api_id = aws_api_gateway_rest_api.this.id
  triggers    = { routes = sha256(jsonencode(local.routes)) }
  depends_on  = [aws_api_gateway_integration.this]
  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_api_gateway_stage" "this" {
  rest_api_id   = aws_api_gateway_rest_api.this.id
  deployment_id = aws_api_gateway_deployment.this.id
  stage_name    = "api"
}

resource "aws_api_gateway_usage_plan" "this" {
  name        = local.prefix
  description = "Metaflow clients of ${local.prefix}"
  api_stages {
    api_id = aws_api_gateway_rest_api.this.id
    stage  = aws_api_gateway_stage.this.stage_name
  }
  throttle_settings {
    rate_limit  = 200
    burst_limit = 400
  }
}

resource "aws_api_gateway_api_key" "this" {
  name = local.prefix
}

resource "aws_api_gateway_usage_plan_key" "this" {
  usage_plan_id = aws_api_gateway_usage_plan.this.id
  key_id        = aws_api_gateway_api_key.this.id
  key_type      = "API_KEY"
}
