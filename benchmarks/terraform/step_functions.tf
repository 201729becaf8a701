resource "aws_dynamodb_table" "step_functions" {
  name         = "${local.prefix}-step-functions"
  billing_mode = "PAY_PER_REQUEST"
  hash_key     = "pathspec"
  attribute {
    name = "pathspec"
    type = "S"
  }
  ttl {
    attribute_name = "ttl"
    enabled        = true
  }
}

resource "aws_cloudwatch_log_group" "step_functions" {
  name              = "/aws/vendedlogs/states/${local.prefix}"
  retention_in_days = 30
}
