resource "aws_ecr_repository" "flows" {
  name                 = "${local.prefix}/flows"
  image_tag_mutability = "IMMUTABLE"
  force_delete         = true
  image_scanning_configuration {
    scan_on_push = true
  }
}

resource "aws_ecr_lifecycle_policy" "flows" {
  repository = aws_ecr_repository.flows.name
  policy = jsonencode({
    rules = [{
      rulePriority = 1
      description  = "Forget images without a tag"
      selection    = { tagStatus = "untagged", countType = "imageCountMoreThan", countNumber = 5 }
      action       = { type = "expire" }
    }]
  })
}
