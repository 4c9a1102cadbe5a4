#!/bin/bash

TARGET_URL="https://cloud.datakitchen.io/v2/some/api"
JSON_HEADER="Content-type: application/json"

# Use this header after authenticating and storing your session token
AUTH_HEADER="Authorization: Bearer $TOKEN"

# Example curl command
curl -f -s -X POST -H "$JSON_HEADER" -H "$AUTH_HEADER" $TARGET_URL
