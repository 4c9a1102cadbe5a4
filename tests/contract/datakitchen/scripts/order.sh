#!/bin/bash

BASE_URL="https://cloud.datakitchen.io"
FORM_HEADER="Content-type: application/x-www-form-urlencoded"
JSON_HEADER"Content-type: application/json"

USERNAME="<USERNAME>"
PASSWORD="<PASSWORD>"

# Collect Token with curl command
TOKEN=`curl -f -s -X POST -d "username=$USERNAME&password=$PASSWORD" -H "$FORM_HEADER" "$BASE_URL/v2/login"`

# Status message
if [ "$?" != "0" ]
then
    echo "Unable to login"
else
    echo "Token received: ${TOKEN}"
fi

# Define Header with Token and Required Parameters
AUTH_HEADER="Authorization: Bearer $TOKEN"
KITCHEN="<KITCHEN_NAME>"
RECIPE="<RECIPE_NAME>"
VARIATION="<VARIATION_NAME>"

# Define optional Runtime Overrides
PARAMS='{"parameters":{"testvar":"override_value"}}'

# Curl command to Cook the Order
curl -f -s -X PUT -H "$JSON_HEADER" -H "$AUTH_HEADER" -d $PARAMS "$BASE_URL/v2/order/create/$KITCHEN/$RECIPE/$VARIATION"

# Status message
if [ "$?" != "0" ]
then
    echo "Unable to create order run"
else
    echo "Order run created successfully"
fi
