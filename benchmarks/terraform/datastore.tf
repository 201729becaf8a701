resource "aws_kms_key" "datastore" {
  description         = "Data and artifacts of ${local.prefix}"
  enable_key_rotation = true
}

resource "aws_kms_alias" "datastore" {
  name          = "alias/${local.prefix}-datastore"
  target_key_id = aws_kms_key.datastore.key_id
}

resource "aws_s3_bucket" "datastore" {
  bucket        = local.bucket
  force_destroy = true
}

resource "aws_s3_bucket_ownership_controls" "datastore" {
  bucket = aws_s3_bucket.datastore.id
  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_public_access_block" "datastore" {
  bucket                  = aws_s3_bucket.datastore.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_server_side_encryption_configuration" "datastore" {
  bucket = aws_s3_bucket.datastore.id
  rule {
    bucket_key_enabled = true
    apply_server_side_encryption_by_default {
      sse_algorithm     = "aws:kms"
      kms_master_key_id = aws_kms_key.datastore.arn
    }
  }
}

resource "aws_s3_bucket_versioning" "datastore" {
  bucket = aws_s3_bucket.datastore.id
  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "datastore" {
  bucket = aws_s3_bucket_versioning.datastore.id
  rule {
    id     = "noncurrent-versions"
    status = "Enabled"
    filter {
      prefix = ""
    }
    noncurrent_version_expiration {
      noncurrent_days = 30
    }
  }
  rule {
    id     = "incomplete-uploads"
    status = "Enabled"
    filter {
      prefix = ""
    }
    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }
}

resource "aws_s3_bucket_policy" "datastore" {
  bucket = aws_s3_bucket_public_access_block.datastore.bucket
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "DenyPlainHttp"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:*"
      Resource  = [aws_s3_bucket.datastore.arn, "${aws_s3_bucket.datastore.arn}/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
  })
}
