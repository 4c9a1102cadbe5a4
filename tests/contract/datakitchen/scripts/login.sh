#!/bin/bash

LOGIN_URL="https://cloud.datakitchen.io/v2/login"

# Define credentials
USERNAME="me@example.com"
PASSWORD="mypassword"

# Gather Token with curl command
TOKEN=`curl -X POST --data-urlencode "username=$USERNAME" --data-urlencode "password=$PASSWORD" $LOGIN_URL`
