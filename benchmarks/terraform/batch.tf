locals {
  environments = {
    ec2  = { type = "EC2", instances = ["c6i", "m6i", "r6i"], strategy = "BEST_FIT_PROGRESSIVE" }
    spot = { type = "SPOT", instances = ["c6i", "c6a", "m6i", "m6a", "r6i", "r6a"], strategy = "SPOT_CAPACITY_OPTIMIZED" }
  }
}

resource "aws_security_group" "batch" {
  name        = "${local.prefix}-batch"
  description = "Batch jobs of ${local.prefix}"
  vpc_id      = aws_vpc.this.id
}

resource "aws_vpc_security_group_egress_rule" "batch" {
  security_group_id = aws_security_group.batch.id
  description       = "Jobs fetch packages and data"
  ip_protocol       = "-1"
  cidr_ipv4         = "0.0.0.0/0"
}

resource "aws_launch_template" "batch" {
  name = "${local.prefix}-batch"
  block_device_mappings {
    device_name = "/dev/xvda"
    ebs {
      volume_size           = 100
      volume_type           = "gp3"
      encrypted             = true
      delete_on_termination = true
    }
  }
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 2
  }
}

resource "aws_batch_compute_environment" "this" {
  for_each                 = local.environments
  compute_environment_name = "${local.prefix}-${each.key}"
  type                     = "MANAGED"
  compute_resources {
    type                = each.value.type
    allocation_strategy = each.value.strategy
    min_vcpus           = 0
    max_vcpus           = 64
    instance_type       = each.value.instances
    instance_role       = aws_iam_instance_profile.batch_instance.arn
    subnets             = aws_subnet.private[*].id
    security_group_ids  = [aws_security_group.batch.id]
    ec2_configuration {
      image_type = "ECS_AL2023"
    }
    launch_template {
      launch_template_id = aws_launch_template.batch.id
      version            = "$Default"
    }
    tags = { Name = local.prefix }
  }
}

resource "aws_batch_job_queue" "this" {
  for_each = { ec2 = local.prefix, spot = "${local.prefix}-spot" }
  name     = each.value
  state    = "ENABLED"
  priority = 10
  compute_environment_order {
    order               = 1
    compute_environment = aws_batch_compute_environment.this[each.key].arn
  }
}
