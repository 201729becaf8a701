locals {
  table_arn         = "arn:aws:dynamodb:${local.arn_middle}:table/${local.prefix}-step-functions"
  queue_arn         = "arn:aws:batch:${local.arn_middle}:job-queue/${local.prefix}*"
  definition_arn    = "arn:aws:batch:${local.arn_middle}:job-definition/*"
  state_machine_arn = "arn:aws:states:${local.arn_middle}:stateMachine:${local.prefix}_*"
  log_actions       = ["logs:CreateLogStream", "logs:PutLogEvents"]

  use_datastore = [
    { Effect = "Allow", Action = ["s3:ListBucket"], Resource = [aws_s3_bucket.datastore.arn] },
    {
      Effect   = "Allow"
      Action   = ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"]
      Resource = ["${aws_s3_bucket.datastore.arn}/*"]
    },
    { Effect = "Allow", Action = ["kms:Decrypt", "kms:GenerateDataKey"], Resource = [aws_kms_key.datastore.arn] },
  ]
  use_table = [{
    Effect   = "Allow"
    Action   = ["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"]
    Resource = [local.table_arn]
  }]

  # Who acts, who may act as it, and what it may do then.
  roles = {
    metadata-execution = {
      service = "ecs-tasks.amazonaws.com"
      statements = [
        { Effect = "Allow", Action = local.log_actions, Resource = ["${aws_cloudwatch_log_group.metadata.arn}:*"] },
        {
          Effect   = "Allow"
          Action   = ["secretsmanager:GetSecretValue"]
          Resource = [aws_secretsmanager_secret.database.arn]
        },
        { Effect = "Allow", Action = ["kms:Decrypt"], Resource = [aws_kms_key.secrets.arn] },
      ]
    }
    batch-job = {
      service    = "ecs-tasks.amazonaws.com"
      statements = concat(local.use_datastore, local.use_table)
    }
    batch-execution = {
      service = "ecs-tasks.amazonaws.com"
      statements = [
        { Effect = "Allow", Action = ["ecr:GetAuthorizationToken"], Resource = ["*"] },
        {
          Effect   = "Allow"
          Action   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
          Resource = [aws_ecr_repository.flows.arn]
        },
        {
          Effect   = "Allow"
          Action   = local.log_actions
          Resource = ["arn:aws:logs:${local.arn_middle}:log-group:/aws/batch/job:*"]
        },
      ]
    }
    step-functions = {
      service = "states.amazonaws.com"
      statements = concat(local.use_datastore, local.use_table, [
        { Effect = "Allow", Action = ["batch:SubmitJob"], Resource = [local.queue_arn, local.definition_arn] },
        { Effect = "Allow", Action = ["batch:DescribeJobs", "batch:TerminateJob"], Resource = ["*"] },
      ])
    }
    events = {
      service = "events.amazonaws.com"
      statements = [
        { Effect = "Allow", Action = ["states:StartExecution"], Resource = [local.state_machine_arn] },
      ]
    }
  }
}

resource "aws_iam_role" "this" {
  for_each = merge({ for name, role in local.roles : name => role.service }, { batch-instance = "ec2.amazonaws.com" })
  name     = "${local.prefix}-${each.key}"
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = "sts:AssumeRole", Principal = { Service = each.value } }]
  })
}

resource "aws_iam_role_policy" "this" {
  for_each = local.roles
  name     = "${local.prefix}-${each.key}"
  role     = aws_iam_role.this[each.key].name
  policy   = jsonencode({ Version = "2012-10-17", Statement = each.value.statements })
}

resource "aws_iam_role_policy_attachment" "batch_instance" {
  role       = aws_iam_role.this["batch-instance"].name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AmazonEC2ContainerServiceforEC2Role"
}

resource "aws_iam_instance_profile" "batch_instance" {
  name = "${local.prefix}-batch-instance"
  role = aws_iam_role.this["batch-instance"].name
}

resource "aws_iam_policy" "author" {
  name        = "${local.prefix}-flow-author"
  description = "Run and deploy flows on ${local.prefix}"
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(local.use_datastore, [
      { Effect = "Allow", Action = ["batch:DescribeJobs", "batch:DescribeJobQueues"], Resource = ["*"] },
      { Effect = "Allow", Action = ["batch:SubmitJob"], Resource = [local.queue_arn, local.definition_arn] },
    ])
  })
}
