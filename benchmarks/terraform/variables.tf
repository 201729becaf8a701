variable "region" {
  type    = string
  default = "us-east-1"
}

variable "account_id" {
  type    = string
  default = "123456789012"
}

variable "zones" {
  type    = list(string)
  default = ["us-east-1a", "us-east-1b"]
}

locals {
  prefix     = "metaflow-terraform"
  bucket     = "${local.prefix}-${var.account_id}-${var.region}"
  arn_middle = "${var.region}:${var.account_id}"
}
