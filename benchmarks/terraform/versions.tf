# The core stack as plain resources, to be measured beside this project on the same emulated account. It is no module of
# its own to be used: names and sizes follow roles/stack and the roles' defaults.

terraform {
  required_version = ">= 1.11"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }
}

provider "aws" {
  region     = var.region
  access_key = "emulated-account"
  secret_key = "emulated-account-has-no-secrets"

  # The account is on loopback, and knows any credentials. AWS_ENDPOINT_URL says where.
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_region_validation      = true
  s3_use_path_style           = true

  default_tags {
    tags = {
      stack = local.prefix
    }
  }
}
